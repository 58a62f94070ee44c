"""How a command ended, and who may want it to end."""

from __future__ import annotations

import signal
import threading
import time
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from shim.detach import FRONT_DIED, Lifeline
from shim.usage import Usage

Reason = Literal["timed out", "cancelled", "front died"]
Refusal = Literal["cannot run", "not found"]


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    `code` is its own exit code, 128+n after signal n, 124 after the timeout, 126 or 127 if it did
    not start. `how` says why: a command that was cancelled may still have exited with 0. `bytes`
    counts what it wrote, `lost` the bytes that the log file did not take. `rest` are the last of
    these, for the store. `leftovers` names the processes that it left and that were ended.
    """

    code: int
    how: Literal["exited", "signalled"] | Reason | Refusal
    signal: int | None
    rest: bytes = field(default=b"", repr=False)
    bytes: int = 0
    lost: int = 0
    leftovers: tuple[str, ...] = ()
    usage: Usage | None = None

    @classmethod
    def of_status(cls, status: int, reason: Reason | None) -> Ended:
        """Return the end of a command by its status, negative for a signal, and by who asked."""
        code = 124 if reason == "timed out" else status if status >= 0 else 128 - status
        how = reason or ("exited" if status >= 0 else "signalled")
        return cls(code, how, -status if status < 0 else None)

    @classmethod
    def refused(cls, refusal: Refusal) -> Ended:
        """Return the end of a command that could not be started, by the codes of a shell."""
        return cls(127 if refusal == "not found" else 126, refusal, None)

    @classmethod
    def never_started(cls) -> Ended:
        """Return the end of a command whose front had died before it could start."""
        return cls(128 + signal.SIGKILL, FRONT_DIED, signal.SIGKILL)

    def for_receipt(self) -> dict[str, Any]:
        """Return what a receipt tells of it beside the outcome and the code."""
        told: dict[str, Any] = {"log_bytes": self.bytes, "log_lost": self.lost}
        if self.leftovers:
            told["leftovers"] = list(self.leftovers)
        return told | (asdict(self.usage) if self.usage else {})


@dataclass(frozen=True)
class Ending:
    """Who may want the command to end; `deadline` is of the monotonic clock."""

    lifeline: Lifeline
    cancel: threading.Event | None
    deadline: float

    def reason(self) -> Reason | None:
        """Return why the command is to end now, or None."""
        if self.lifeline.front_died:
            return FRONT_DIED
        if self.lifeline.addressed or (self.cancel is not None and self.cancel.is_set()):
            return "cancelled"
        return "timed out" if time.monotonic() >= self.deadline else None
