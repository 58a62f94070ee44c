"""How an attempt ended, in one word or two and as the closing table shows it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from shim import reclaim
from shim.detach import signal_name
from shim.ended import Ended
from shim.errors import ShimError, printable
from shim.redact import Masker


@dataclass
class Result:
    """What the closing table shows of a stage: outcome, seconds, where its log is."""

    outcome: str = "failed"
    seconds: float = 0.0
    log: str = "-"

    def write(self, report: Path | None) -> None:
        """Write it as three lines to a file, for the entry."""
        if report:
            with suppress(OSError):  # the closing table then says less; the status stays
                lines = (self.outcome, f"{self.seconds:.0f}", self.log)
                report.write_text("".join(f"{printable(line)}\n" for line in lines))


def of(ended: Ended, stopped: bool) -> tuple[str, int]:
    """Return the outcome and the exit code; `stopped` says that the attempt was told to end."""
    if ended.code == 0:
        return "committed", 0
    if stopped and reclaim.noticed():
        return "reclaimed", reclaim.CODE
    if ended.how == "exited":
        return "failed", ended.code
    if ended.how == "signalled" and ended.signal:
        return f"died of {signal_name(ended.signal)}", ended.code
    return ended.how, ended.code


def failure(error: BaseException, mask: Masker) -> tuple[int, str]:
    """Return the exit code of an error that ended an attempt, and what it says.

    Secrets that it quotes are masked in the error itself, for it is printed by others.
    """
    if isinstance(error, ShimError):
        error.message, error.hint = mask.text(error.message), mask.text(error.hint)
        return error.code, str(error)
    return ShimError.code, mask.text(repr(error))
