"""The commands of a lab instance that end it or set a timer, instead of systemd's.

Usage: python tests/lab/power.py FOLDER NAME ARGUMENT…
NAME is shutdown, poweroff, systemd-run, systemctl or busctl. What it understands is a part of the
manual pages' (shutdown(8), systemd-run(1), systemctl(1), systemd.time(7)); the rest is refused with
exit 1, so that nothing passes here that was not meant. A timer that waits is a file in
FOLDER/timers, named for its unit (`shutdown` for a shutdown); without it nothing happens. When it
is due is told to the instance's init, as a line of JSON through a FIFO.
"""

from __future__ import annotations

import getopt
import json
import os
import re
import resource
import secrets
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

NAMES = ("shutdown", "poweroff", "systemd-run", "systemctl", "busctl")
CONTROL, TIMERS, SHUTDOWN = "control", "timers", "shutdown"
LONGEST = 4096  # bytes that a FIFO takes in one piece (PIPE_BUF in pipe(7))
Order = bytes
UNITS = {
    **dict.fromkeys(("", "s", "sec", "second", "seconds"), 1),
    **dict.fromkeys(("m", "min", "minute", "minutes"), 60),
    **dict.fromkeys(("h", "hr", "hour", "hours"), 3600),
    **dict.fromkeys(("d", "day", "days"), 86400),
}
SPAN = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*")
RUN_FLAGS = ("quiet", "collect", "no-block", "no-ask-password", "system")
RUN_VALUES = ("on-active=", "unit=", "description=", "property=", "timer-property=")


class RefusedError(Exception):
    """What was asked for cannot be done, or not in the lab."""


def shutdown(arguments: list[str], folder: Path) -> Order | None:
    """Set or cancel a shutdown, see shutdown(8): the last one wins; no time is one minute."""
    try:
        options, rest = getopt.gnu_getopt(arguments, "hHPc", ["halt", "poweroff", "no-wall"])
    except getopt.GetoptError as error:
        raise RefusedError(f"{error}, in the lab") from None
    if ("-c", "") in options:
        (folder / TIMERS / SHUTDOWN).unlink(missing_ok=True)
        return None
    when = rest[0] if rest else "+1"
    if when == "now":
        when = "+0"
    if not re.fullmatch(r"\+\d+", when):
        raise RefusedError(f"Failed to parse time specification: {when}")
    (folder / TIMERS / SHUTDOWN).touch()
    return _order(SHUTDOWN, minutes=int(when))


def systemd_run(arguments: list[str], folder: Path) -> Order:
    """Set the timer of `systemd-run --on-active=TIME COMMAND`, see systemd-run(1)."""
    try:
        options, command = getopt.getopt(arguments, "qGu:p:", [*RUN_FLAGS, *RUN_VALUES])
    except getopt.GetoptError as error:
        raise RefusedError(f"{error}, in the lab") from None
    given = dict(options)
    after = given.get("--on-active")
    if after is None or not command:
        raise RefusedError("the lab wants --on-active and a command")
    unit = given.get("--unit") or given.get("-u") or f"run-r{secrets.token_hex(16)}"
    unit = unit.removesuffix(".timer").removesuffix(".service")
    # By its own name: an absolute path would end the machine that the lab runs on.
    name = Path(command[0]).name
    found = str(folder / "bin" / name) if name in NAMES else shutil.which(command[0])
    if found is None:
        raise RefusedError(f"Failed to find executable {command[0]}: No such file or directory")
    order = _order(unit, seconds=span(after), command=[found, *command[1:]])
    try:
        (folder / TIMERS / unit).touch(exist_ok=False)
    except FileExistsError:
        raise RefusedError(
            f"Failed to start transient timer unit: Unit {unit}.timer was already loaded or has a "
            "fragment file."
        ) from None
    if not {"-q", "--quiet"} & given.keys():
        print(f"Running timer as unit: {unit}.timer", file=sys.stderr)
    return order


def systemctl(arguments: list[str], folder: Path) -> Order | None:
    """Do `systemctl poweroff` or `systemctl stop UNIT…`, see systemctl(1)."""
    words = [word for word in arguments if not word.startswith("-")]
    if words == ["poweroff"]:
        return shutdown(["now"], folder)
    if words[:1] != ["stop"]:
        raise RefusedError(f"the lab has no systemctl {' '.join(arguments)}")
    for unit in (word.removesuffix(".timer") for word in words[1:]):
        try:
            (folder / TIMERS / unit).unlink()
        except FileNotFoundError:
            raise RefusedError(
                f"Failed to stop {unit}.timer: Unit {unit}.timer not loaded."
            ) from None
    return None


def busctl(arguments: list[str]) -> None:
    """Take a request for a unit of one's own, see busctl(1); no unit here is ended by itself.

    Never the machine's own: it would put the processes of the lab into a unit of this system.
    """
    if "StartTransientUnit" not in arguments:
        raise RefusedError(f"the lab has no busctl {' '.join(arguments)}")


def span(text: str) -> float:
    """Return the seconds of a time span such as 90, 5min or 1h 30m, see systemd.time(7)."""
    parts = SPAN.findall(text)
    whole = "".join(match[0] for match in SPAN.finditer(text))
    if not parts or whole != text or any(unit not in UNITS for _, unit in parts):
        raise RefusedError(f"Failed to parse timer value: {text}")
    return float(sum(float(number) * UNITS[unit] for number, unit in parts))


def do(folder: Path, name: str, arguments: list[str]) -> Order | None:
    """Do what can be done here; return the order for init, if there is one. Raises RefusedError."""
    if name == "shutdown":
        return shutdown(arguments, folder)
    if name == "systemd-run":
        return systemd_run(arguments, folder)
    if name == "systemctl":
        return systemctl(arguments, folder)
    if name == "busctl":
        busctl(arguments)
        return None
    return shutdown(["now"], folder)


def _order(
    unit: str, *, minutes: int = 0, seconds: float = 0, command: Sequence[str] = ()
) -> Order:
    """Return a line for init; without a command it is a shutdown, which waits for this process."""
    after = {"minutes": minutes, "seconds": seconds}
    order = {"unit": unit, **after, "command": command, "caller": os.getpid()}
    line = json.dumps(order).encode() + b"\n"
    if len(line) > LONGEST:
        raise RefusedError(f"the lab takes at most {LONGEST} bytes")
    return line


def main(folder: Path, name: str, arguments: list[str]) -> int:
    """Run one command; log it, give the order, and say what is refused."""
    # systemd needs no room on a disk for any of it, so neither must what stands for it here.
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    with (folder / "calls").open("a") as calls:
        calls.write(json.dumps([name, *arguments]) + "\n")
    try:
        order = do(folder, name, arguments)
    except RefusedError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 1
    if order is not None:
        os.write(os.open(folder / CONTROL, os.O_WRONLY), order)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:]))
