"""What an app raises, told apart from what its connection does."""

import os
from types import TracebackType

import gunicorn

GUNICORN = os.path.dirname(gunicorn.__file__) + os.sep
CLIENT_SOCKET = os.path.join(os.path.dirname(__file__), "client_socket.py")
WORKERS = os.path.join(GUNICORN, "workers", "")  # whose frames call the app


class ClientGoneError(ConnectionError):
    """The client has hung up: nobody waits for an answer."""


def is_of_connection(error: BaseException) -> bool:
    """Tell whether it was raised in reading from a client or writing to it.

    All else comes from the app, an OSError or a StopIteration included.
    """
    if isinstance(error, ClientGoneError):
        return True
    place = _raised_in(error.__traceback__)
    if place == CLIENT_SOCKET:
        return True
    if not isinstance(error, Exception) or not place.startswith(GUNICORN):
        return False
    # The worker ends an answer that it can't complete by a StopIteration.
    return isinstance(error, StopIteration) or not place.startswith(WORKERS)


def _raised_in(trace: TracebackType | None) -> str:
    """Return the file of the innermost frame."""
    place = ""
    while trace is not None:
        place, trace = trace.tb_frame.f_code.co_filename, trace.tb_next
    return place
