"""The root of every error raised on purpose, and the two every layer needs."""

from __future__ import annotations


class LabError(Exception):
    """What went wrong, in one line, and `hint`: how to mend it."""

    retryable = False
    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class UsageError(LabError):
    """The caller asked for something that cannot be: bad arguments, bad lab.yaml. Exit code 2."""

    exit_code = 2


class DeadlineExceeded(LabError):
    """A wait reached its deadline; the message says what was awaited and for how long."""

    retryable = True
