"""How instances and logs must end: invariants 4 and 5, see checker.py."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from tests.crash.evidence import Evidence, Line, parsed
from tests.crash.records import launches

TAIL = 1.5  # seconds of a log that an end without notice may take, see world.py for the pace
FIRST = 1800  # seconds of the first deadline, see infrastructure/bootstrap.sh
STAGES = ("a", "b")
TAGS = ("spot-backtest:launch", "spot-backtest:deadline", "spot-backtest:seconds")
ABRUPT = ("reclaim", "hardware", "notice")


def all_end(seen: Evidence) -> Iterator[str]:
    """4: every instance has tags and a deadline that it armed first, and has ended."""
    for made in seen.instances:
        name, tags = made["id"], made["tags"]
        if made["state"] not in ("terminated",):
            yield f"{name} is {made['state']}"
        if missing := [tag for tag in TAGS if not tags.get(tag)]:
            yield f"{name} lacks the tags {missing}"
        record = tags.get(TAGS[0], "").partition(seen.prefix)[2]
        values = parsed(seen.objects.get(record, b""))
        if values.get("state") != "closed":
            yield f"the record of {name} is {values.get('state', 'not there')}"
        if values.get("instance") not in (name, None):
            yield f"the record of {name} names {values.get('instance')}"
        first = next(iter(seen.orders.get(name, [])), None)
        if first is not None and (
            first[0] != "systemd-run" or f"--on-active={FIRST}s" not in first
        ):
            yield f"the first that {name} did was {first}, not its deadline"
    for values in launches(seen):
        if values.get("state") != "closed":
            yield f"the launch {values.get('launch')} is {values.get('state')}"
    yield from _unasked(seen)
    lives = sorted(seen.lives.items(), key=lambda life: life[1])
    for (one, (_, ended)), (other, (began, _)) in itertools.pairwise(lives):
        if began < ended:
            yield f"{other} was launched while {one} was at work"
    if seen.left_alive:
        yield f"a killed launcher left {list(seen.left_alive)} alive"
    if seen.orphans:
        yield f"when all launchers had ended, {list(seen.orphans)} was still alive"
    if len({made["tags"].get(TAGS[0]) for made in seen.instances}) != len(seen.instances):
        yield "two instances are of one launch"


def _unasked(seen: Evidence) -> Iterator[str]:
    """Return the instances that nobody has asked EC2 to end, though somebody had to."""
    asked = [row.key for row in seen.access if row.operation == "TerminateInstances"]
    for made in seen.instances:
        key = made["tags"].get(TAGS[0], "").partition(seen.prefix)[2]
        outcome = parsed(seen.objects.get(key, b"")).get("outcome")
        followed = seen.fault != "crash" and outcome in ("committed", "failed", "ended")
        missed = outcome == "lost" and not made["reason"].startswith("Server.")
        if (followed or missed) and not any(made["id"] in ids for ids in asked):
            yield f"{outcome}, and nobody asked EC2 to end {made['id']}"


def no_log_lost(seen: Evidence) -> Iterator[str]:
    """5: every line of a stage is in its log; after an end untold, all but the last ones."""
    if seen.fault == "full-disk":
        return  # what a full disk refuses is counted in the receipt and told in the log
    for stage in STAGES:
        logs = [b for k, b in seen.objects.items() if k.startswith(f"_ssm_logs/{stage}/")]
        shipped = set(b"\n".join(logs).decode(errors="replace").splitlines())
        for line in seen.truth:
            text = f"{line.tag} {line.text}"
            if line.stage == stage and not _excused(seen, line) and text not in shipped:
                yield f"{line.tag} wrote {line.text!r}, which is in no log"
    for values in launches(seen):
        ended = values.get("outcome") in ("committed", "failed")
        if ended and values.get("log") not in seen.objects:
            yield f"the launch {values.get('launch')} names no log that is there"
    whole = b"\n".join(b for k, b in seen.objects.items() if k.startswith("_ssm_logs/spot/"))
    for line in seen.truth:
        said = f"{line.tag} {line.text}".encode()
        if not _excused(seen, line) and said not in whole:
            yield f"{line.tag} wrote {line.text!r}, which is not in the log of its instance"


def _excused(seen: Evidence, line: Line) -> bool:
    """Return whether a line was among the last before an end that nobody could know of."""
    ends = 3.0 if seen.fault == "notice" else 0.0
    abrupt = seen.fault in ABRUPT and seen.reached
    return abrupt and seen.sprung - TAIL < line.at < seen.sprung + ends + 1
