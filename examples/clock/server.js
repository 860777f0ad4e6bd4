'use strict';
// A clock that runs under start_server: it listens on the sockets that it is handed, and ends
// without losing a request.

const http = require('http');
const net = require('net');

// longer than answers take that are under way at SIGTERM: whoever gets one may ask again at once
const LINGER_MS = 5000;

const generation = process.env.SERVER_STARTER_GENERATION || 'none';

// "127.0.0.1:8080=3;/run/clock.sock=4": a name and a file descriptor each.
function inheritedDescriptors() {
  return (process.env.SERVER_STARTER_PORT || '')
    .split(';')
    .filter(Boolean)
    .map((item) => Number(item.slice(item.lastIndexOf('=') + 1)));
}

const servers = [];
let draining = false;

function answer(request, response) {
  if (draining) response.setHeader('Connection', 'close');
  const text = `${new Date().toISOString()}\ngeneration ${generation}, process ${process.pid}\n`;
  response.setHeader('Content-Type', 'text/plain; charset=utf-8');
  response.setHeader('X-Generation', generation);
  response.setHeader('X-Pid', process.pid);
  const url = new URL(request.url, 'http://clock');
  if (url.pathname !== '/slow') {
    response.end(text);
    return;
  }
  const seconds = Number(url.searchParams.get('seconds') || 1);
  if (!(seconds >= 0 && seconds <= 30)) {
    response.statusCode = 400;
    response.end('seconds: from 0 to 30\n');
    return;
  }
  response.write(text);
  setTimeout(() => response.end('done\n'), seconds * 1000);
}

process.on('SIGTERM', () => {
  if (draining) return;
  draining = true;
  for (const server of servers) {
    // Stop accepting, as net.Server does it: http.Server.close() would also cut idle connections,
    // on which a request may be on its way. They get LINGER_MS, and "Connection: close".
    net.Server.prototype.close.call(server);
    setTimeout(() => server.closeIdleConnections(), LINGER_MS).unref();
  }
});

const descriptors = inheritedDescriptors();
if (descriptors.length === 0) {
  console.error('clock: no sockets: run it as start_server --port=8080 -- node server.js');
  process.exit(1);
}
for (const fd of descriptors) {
  const server = http.createServer(answer);
  server.listen({ fd }, () => console.log(`clock: generation ${generation} listens on fd ${fd}`));
  servers.push(server);
}
