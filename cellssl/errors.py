"""errors: the tree of errors raised on purpose; each has a message, a hint (the cure) and an exit code."""


class CellsslError(Exception):
    """What went wrong in one sentence, and how to mend it; the command line prints both and exits with `exit_code`."""

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class FailedError(CellsslError):
    """The work itself failed: a non-finite loss, a full disk."""


class UsageError(CellsslError):
    """Asked for something that cannot be: a bad recipe, a missing upstream artifact, a GPU that is not there."""

    exit_code = 2


class DataError(CellsslError):
    """The images or tables are not what they must be."""

    exit_code = 3


class NetworkError(CellsslError):
    """A server could not be reached or broke off; what came so far is kept."""

    exit_code = 4


class IntegrityError(CellsslError):
    """Bytes on disk are not the bytes that their card describes."""

    exit_code = 5


class BusyError(CellsslError):
    """Another process is making the same artifact."""

    exit_code = 75


class InterruptedByUserError(BaseException):
    """Stopped by Ctrl-C (130) or SIGTERM (143), with everything so far saved.

    No `Exception`: a signal may come while a library is imported, and libraries swallow those.
    """

    def __init__(self, message: str, hint: str = "", *, exit_code: int = 130) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.exit_code = exit_code
