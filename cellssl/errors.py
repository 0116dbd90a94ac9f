"""errors: the exceptions that are raised on purpose; each has a message, a hint (the cure) and an exit code."""

import json


class CellsslError(Exception):
    """An error with a message and a cure; the command line prints both and exits with `exit_code`."""

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class FailedError(CellsslError):
    """The computation failed: a non-finite loss, a full disk, too little memory."""


class UsageError(CellsslError):
    """The request cannot be fulfilled: a bad recipe, a missing upstream artifact, a GPU that does not exist."""

    exit_code = 2


class DataError(CellsslError):
    """The images or tables are damaged, or not of the kind that is needed."""

    exit_code = 3


class NetworkError(CellsslError):
    """A server could not be reached, or the connection broke; the bytes received so far are kept."""

    exit_code = 4


class IntegrityError(CellsslError):
    """Files on disk are not those that their card describes."""

    exit_code = 5


class BusyError(CellsslError):
    """Another process is making the same artifact."""

    exit_code = 75


class InterruptedByUserError(BaseException):
    """The work was stopped by Ctrl-C (exit code 130) or SIGTERM (143); finished work is saved.

    It is not an `Exception`: a signal may arrive while a library is imported, and libraries catch `Exception`.
    """

    def __init__(self, message: str, hint: str = "", *, exit_code: int = 130) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.exit_code = exit_code


def reason_of(error: Exception) -> str:
    """Return why something cannot be read, in words: what a library raised may name a key, or nothing at all."""
    match error:
        case OSError() if error.strerror:
            return error.strerror
        case KeyError():
            return f"{error} is missing"
        case json.JSONDecodeError():
            return f"it holds no JSON: {error}"
        case UnicodeDecodeError():
            return "it holds no text in UTF-8"
        case EOFError():
            return "it ends too early"
    return " ".join(str(error).splitlines()[:3])[:300] or "it has another form than it should have"
