"""A server that ends at once when it is told to, whoever waits for an answer: requests are lost."""

import os
import socket
import threading
import time

ANSWER_SECONDS = 0.2  # somebody always waits
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nhasty\n"


def _answer(connection: socket.socket) -> None:
    with connection:
        connection.recv(65536)
        time.sleep(ANSWER_SECONDS)
        connection.sendall(ANSWER)


def main() -> None:
    """Serve on the socket that the super-daemon has handed over."""
    fd = int(os.environ["SERVER_STARTER_PORT"].rpartition("=")[2])
    listener = socket.socket(fileno=fd)
    listener.setblocking(True)
    while True:
        threading.Thread(target=_answer, args=[listener.accept()[0]], daemon=True).start()


if __name__ == "__main__":
    main()
