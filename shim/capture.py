"""A command whose output survives: kept in a file, shown, shipped, and its status returned."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from shim import clock
from shim.detach import Lifeline, detached
from shim.logfile import open_log
from shim.plan import prefixes
from shim.process import GRACE, run
from shim.redact import masker
from shim.secret_names import SecretNames
from shim.secret_values import command_secrets, environment_secrets, masked_line
from shim.ship import EVERY, LAST, Shipper, log_key
from shim.sinks import say
from shim.store import open_store


def capture(
    command: Sequence[str],
    *,
    slug: str,
    log: Path,
    store_uri: str | None,
    run_date: str,
    patterns: Sequence[str],
    env: Mapping[str, str],
    allow: Sequence[str] = (),
    dry_run: bool = False,
    key: str | None = None,
    timeout: float | None = None,
    grace: float = GRACE,
    ship_every: float = EVERY,
    ship_last: float = LAST,
) -> int:
    """Run a command and return its status, whatever becomes of its log.

    Both of its outputs go to the end of `log` and to stdout, with the secrets of `env` and of the
    command masked: those whose names match `patterns` and none of `allow`. It gets `env` and
    RUN_DATE, and our stdin unless that is a terminal, which belongs to another session. Without a
    store the log stays local; a log that cannot be opened or shipped is said on stderr and stays
    where that says. `key` replaces the key that is made of the slug, the date, the host and the
    time. Durations are in seconds.
    Raises UsageError for an address that cannot be a store.
    """
    _, logs = prefixes(run_date, dry_run)
    key = key or log_key(logs, slug, run_date, os.uname().nodename, clock.utc_now())
    log = writable_log(log)
    environment = {**env, "RUN_DATE": run_date}
    names = SecretNames(tuple(patterns), tuple(allow))
    hidden = environment_secrets(environment, names) + command_secrets(command, names)
    if line := masked_line(hidden):
        say(line)

    def shipping() -> Shipper | None:
        if not store_uri:
            return None
        shipper = Shipper(open_store(store_uri), key, log, ship_every)
        shipper.start()
        return shipper

    def shipped(shipper: Shipper | None, rest: bytes = b"") -> None:
        if shipper and shipper.finish(ship_last, rest):
            say(f"{slug}: the log is {shipper.uri}")
            if shipper.freed or rest:
                say(f"{slug}: {log} has not all of it, because its disk was full")

    def work(lifeline: Lifeline) -> int:
        shipper = shipping()
        ended = run(
            command,
            log=log,
            lifeline=lifeline,
            env=environment,
            mask=masker(hidden),
            console=1,
            stdin=None if os.isatty(0) else 0,
            timeout=timeout,
            make_room=shipper.make_room if shipper else None,
            silent=lambda seconds: say(f"{slug}: running for {seconds:.0f} s, no output lately"),
            grace=grace,
        )
        if ended.how in ("timed out", "cancelled"):
            say(f"{slug}: {ended.how}")
        shipped(shipper, ended.rest)
        return ended.code

    def lost(why: str) -> None:
        say(f"{slug}: {why}; the log is {log}")
        # Under the next free key, and whole: nobody knows how far the supervisor came.
        shipped(shipping())

    return detached(work, lost)


def writable_log(log: Path) -> Path:
    """Return the path if a log can be written there, else one in a directory of its own."""
    try:
        os.close(open_log(log))
    except OSError as error:
        why = f"the log {log} cannot be opened ({error.strerror})"
    else:
        return log
    try:
        other = Path(tempfile.mkdtemp(prefix="spot_backtest-")) / (log.name or "log")
    except OSError as error:
        say(f"{why}, nor one elsewhere ({error.strerror}); there is no log")
        return Path(os.devnull)
    say(f"{why}; it is kept in {other}")
    return other
