"""A server that is told to end, and ends in the middle of the next answer: that request is lost."""

import os
import signal
import socket
import threading
import time

ANSWER_SECONDS = 0.2
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nhasty\n"
told_to_end = threading.Event()


def _answer(connection: socket.socket) -> None:
    with connection:
        connection.recv(65536)
        time.sleep(ANSWER_SECONDS)
        if told_to_end.is_set():
            os._exit(1)
        connection.sendall(ANSWER)


def main() -> None:
    """Serve on the socket that the super-daemon has handed over."""
    signal.signal(signal.SIGTERM, lambda *_: told_to_end.set())
    fd = int(os.environ["SERVER_STARTER_PORT"].rpartition("=")[2])
    listener = socket.socket(fileno=fd)
    listener.setblocking(True)
    while True:
        threading.Thread(target=_answer, args=[listener.accept()[0]], daemon=True).start()


if __name__ == "__main__":
    main()
