'use strict';
// A clock that runs under start_server: it listens on the sockets that it is handed, and ends
// without losing a request.

const http = require('http');
const net = require('net');

// how long a connection on which nothing was ever asked is waited for at the end
const SILENT_MS = 5000;

const generation = process.env.SERVER_STARTER_GENERATION || 'none';

// "127.0.0.1:8080=3;/run/clock.sock=4": a name and a file descriptor each.
function inheritedDescriptors() {
  return (process.env.SERVER_STARTER_PORT || '')
    .split(';')
    .filter(Boolean)
    .map((item) => Number(item.slice(item.lastIndexOf('=') + 1)));
}

const servers = [];
const silent = new Set(); // connections on which nothing has been asked yet
let draining = false;

function answer(request, response) {
  silent.delete(request.socket);
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
    // on which a request may be on its way. Those end by the "Connection: close" of their next
    // answer, or keepAliveTimeout (5 s) after their last one, which clients have been told.
    net.Server.prototype.close.call(server);
  }
  setTimeout(() => silent.forEach((socket) => socket.destroy()), SILENT_MS).unref();
});

const descriptors = inheritedDescriptors();
if (descriptors.length === 0) {
  console.error('clock: no sockets: run it as start_server --port=8080 -- node server.js');
  process.exit(1);
}
for (const fd of descriptors) {
  const server = http.createServer(answer);
  server.on('connection', (socket) => {
    silent.add(socket);
    socket.on('close', () => silent.delete(socket));
  });
  server.listen({ fd }, () => console.log(`clock: generation ${generation} listens on fd ${fd}`));
  servers.push(server);
}
