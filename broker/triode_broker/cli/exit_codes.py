"""What `triode` tells the shell, printed by every --help; the codes are fixed, because scripts branch on them."""

from enum import IntEnum

INTERRUPTED = 130  # Ctrl-C, as shells report it


class ExitCode(IntEnum):
    """How a command ended."""

    OK = 0
    FAILURE = 1
    USAGE = 2
    REFUSED = 3
    TIMEOUT = 4


MEANINGS: dict[int, str] = {
    ExitCode.OK: "done",
    ExitCode.FAILURE: "failed, stderr says why",
    ExitCode.USAGE: "wrong arguments or settings",
    ExitCode.REFUSED: "the broker refused",
    ExitCode.TIMEOUT: "no broker, or not done in time",
    INTERRUPTED: "Ctrl-C (a serving broker ends with 0)",
}


class Failure(Exception):
    """Ends a command with a sentence for its user and an exit code."""

    def __init__(self, code: ExitCode, message: str) -> None:
        super().__init__(message)
        self.code = code
