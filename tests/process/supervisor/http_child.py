"""An HTTP server that answers as the file named by its argument says; see test_probe.py.

It serves the listener that start_server hands it, or with a second argument a unix socket there.
"""

import json
import os
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from socket import AF_UNIX, socket

PLAN = json.loads(Path(sys.argv[1]).read_text())
NUMBER = os.environ["SERVER_STARTER_GENERATION"]


class _Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = NUMBER.encode()
        self.send_response(PLAN["status"])
        if PLAN.get("header"):
            self.send_header("Server-Starter-Generation", NUMBER)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        return "a unix socket has none"

    def log_message(self, *_arguments: object) -> None:
        pass


def main() -> None:
    if len(sys.argv) > 2:
        listener = socket(AF_UNIX)
        listener.bind(sys.argv[2])
        listener.listen()
    else:
        _, _, fd = os.environ["SERVER_STARTER_PORT"].rpartition("=")
        listener = socket(fileno=int(fd))
    server = HTTPServer(("", 0), _Answer, bind_and_activate=False)
    server.socket.close()
    server.socket = listener
    server.serve_forever()


main()
