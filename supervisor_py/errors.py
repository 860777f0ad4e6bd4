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


class Complaints:
    """All that is wrong with a command line, so that it can be told at once.

    `with complaints:` takes down a FatalError that is raised in it, and goes on.
    """

    def __init__(self) -> None:
        self.found: list[FatalError] = []

    def add(self, error: FatalError) -> None:
        """Take down what is wrong."""
        self.found.append(error)

    def settle(self) -> None:
        """Raise a FatalError of all that was found, with the exit status of the first."""
        if self.found:
            raise FatalError("\n".join(map(str, self.found)), self.found[0].code)

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> bool:
        if isinstance(error, FatalError):
            self.add(error)
            return True
        return False
