"""The one exception that ends a command with a message."""


class FatalError(Exception):
    """A command can't go on.

    The text is for the person who typed it; `code` is the exit status: 1 for a bad option, the
    errno of a failed system call, else 255 (reference: Server::Starter 0.35).
    """

    def __init__(self, message: str, code: int = 255) -> None:
        super().__init__(message)
        self.code = code


def from_os_error(message: str, error: OSError) -> FatalError:
    """Say what failed and why, with the errno as exit status."""
    return FatalError(f"{message}: {error.strerror or error}", error.errno or 255)
