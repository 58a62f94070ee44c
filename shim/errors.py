"""One class for each way a run can end badly: an exit code, a message and what to do about it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ShimError(Exception):
    """A failure that the user can read and act on.

    `code` is the exit code (see the table in README.md), `hint` says what to do; `passing` that
    nobody answered, so that the same call may succeed later.
    """

    code = 70

    def __init__(self, message: str, hint: str = "", *, passing: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.passing = passing

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message


class UsageError(ShimError):
    """A flag, a variable or a stage name that cannot be used."""

    code = 2


class ContractError(ShimError):
    """A stage exited 0 and broke its contract."""

    code = 65


class PreflightError(ShimError):
    """The store, an artifact, an input or a commit is not there."""

    code = 69


class RecordError(ShimError):
    """A record or an artifact could not be written."""

    code = 73


class BusyError(ShimError):
    """Another attempt or execution owns the stage; the same command may be tried again."""

    code = 75


class LockedError(ShimError):
    """Another process holds a lock of the store; the same command may be tried again."""

    code = 75

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message, hint, passing=True)


class AccessError(ShimError):
    """Credentials or permissions."""

    code = 77


class PipelineError(ShimError):
    """pipeline.toml is wrong."""

    code = 78


def shown(value: object, limit: int = 120) -> str:
    """Return a value as it may stand in a message: quoted, escaped, at most `limit` characters."""
    text = ascii(value) if isinstance(value, str) else str(value)
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a sentence that offers the nearest known name, or lists the known ones.

    Case makes no difference.
    """
    choices = {choice.lower(): choice for choice in sorted(known)}
    word = name.lower()
    longer = [choice for choice in choices if len(word) > 2 and choice.startswith(word)]
    match = longer[:1] or difflib.get_close_matches(word, list(choices), n=1, cutoff=0.5)
    if match:
        return f"did you mean {choices[match[0]]}?"
    return f"known: {', '.join(choices.values())}" if choices else "none is known"
