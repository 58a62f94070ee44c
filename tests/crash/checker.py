"""The eleven invariants of a case, from outside, with no code of the shim.

Each check returns sentences that store, EC2, logs and exit codes give rise to; nothing when the
invariant holds. What each of them looks at stands in docs/reliability.md.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from tests.crash.cases import STORE
from tests.crash.ends import ABRUPT, STAGES, all_end, no_log_lost
from tests.crash.evidence import Evidence, parsed
from tests.crash.outages import begun, no_work_lost
from tests.crash.records import commits, launches, receipts, run_prefix
from tests.lab.outage import FORMS

PASSING = ("throttle", "lost-answer")  # and on an instance more, see true_codes
CANNOT = 9  # the stages' own code when a file cannot be written
# What the tool may leave with beside a stage's own codes: the table in DESIGN.
OWN = {0, 2, 65, 69, 70, 73, 75, 77, 78, 124, 126, 127}


def violated(seen: Evidence) -> dict[int, list[str]]:
    """Return the invariants that do not hold, each with what shows it."""
    found = {number: list(check(seen)) for number, check in CHECKS.items()}
    return {number: why for number, why in found.items() if why}


def _made_for_others(seen: Evidence, variable: str, value: str) -> Iterator[str]:
    """Return each artifact, once for each version, whose stage was told another value."""
    told = re.compile(rb'"%s": "(.*?)"' % variable.encode())
    for key in (f"{run_prefix(seen)}{stage}.txt" for stage in STAGES):
        for body in seen.versions.get(key, []):
            if set(told.findall(body)) - {value.encode()}:
                yield key


def one_date(seen: Evidence) -> Iterator[str]:
    """1: every key, record, artifact and log line is of the one run date."""
    day = re.escape(seen.date)
    inside = rf"backtest/{day}/.+|_ssm_logs/\w+/{day}/[^/]+|_(bundles|environments|tmp)/[^/]+"
    for key in seen.versions:
        if not re.fullmatch(inside, key):
            yield f"{key} is not under {seen.date}"
    for values in [*launches(seen), *receipts(seen), *commits(seen).values()]:
        if values.get("run_date") != seen.date:
            yield f"a record has the run date {values.get('run_date')}"
    for key in _made_for_others(seen, "RUN_DATE", seen.date):
        yield f"{key} was made for another date"


def complete(seen: Evidence) -> Iterator[str]:
    """2: a commit lists what is there, and came after it; exit 0 only with every commit."""
    made = commits(seen)
    for stage, values in made.items():
        for path, listed in values.get("artifacts", {}).items():
            body = seen.objects.get(run_prefix(seen) + path)
            if body is None:
                yield f"the commit of {stage} lists {path}, which is not there"
            elif (len(body), hashlib.sha256(body).hexdigest()) != (
                listed["size"],
                listed["sha256"],
            ):
                yield f"the commit of {stage} lists another {path} than the one that is there"
        if f"{stage}.txt" not in values.get("artifacts", {}):
            yield f"the commit of {stage} does not list {stage}.txt"
        below = values.get("built_on", {})
        if stage == "b" and below.get("a") != _digest(made.get("a", {})):
            yield "b was built on another a than the one that is there"
    written: set[str] = set()
    for row in seen.access:
        if row.operation != "PutObject" or row.outcome != "ok":
            continue
        if (
            found := re.fullmatch(re.escape(run_prefix(seen)) + r"_stages/(\w+)\.json", row.key)
        ) and (found[1] in STAGES and f"{run_prefix(seen)}{found[1]}.txt" not in written):
            yield f"the commit of {found[1]} was written before its artifact"
        written.add(row.key)
    last = seen.launchers[-1]["code"]
    if last == 0 and not seen.fault.startswith("dry-run") and set(made) != set(STAGES):
        yield f"exit 0, and there are commits of {sorted(made)} only"
    if last != 0:
        yield f"it did not recover: the last launcher ended with {last}"


def _digest(values: dict[str, Any]) -> str:
    listed = [[n, a["size"], a["sha256"]] for n, a in sorted(values.get("artifacts", {}).items())]
    text = json.dumps([values.get("stage"), values.get("run_date"), listed])
    return hashlib.sha256(text.encode()).hexdigest()


def one_commit(seen: Evidence) -> Iterator[str]:
    """3: one commit a stage, and nothing is published by an attempt that was closed by others."""
    for stage in STAGES:
        versions = seen.versions.get(f"{run_prefix(seen)}_stages/{stage}.json", [])
        launch = {v.get("attempt"): v.get("launch", "") for v in receipts(seen, stage)}
        by = [launch.get(parsed(v).get("attempt"), "").rpartition("-")[0] for v in versions]
        if len(set(by)) < len(by):
            yield f"{stage} was committed again by a launcher that had committed it"
        commit = commits(seen).get(stage, {})
        for values in receipts(seen, stage):
            mine = values.get("attempt") in {parsed(v).get("attempt") for v in versions}
            if values.get("state") != "closed":
                yield f"the receipt {values.get('attempt')} of {stage} is open"
            elif values.get("outcome") == "committed" and not mine:
                yield f"the receipt {values.get('attempt')} says committed, no commit does"
        if commit and commit.get("attempt") not in {v.get("attempt") for v in receipts(seen)}:
            yield f"the commit of {stage} is of an attempt without receipt"
    yield from _late(seen)


def _late(seen: Evidence) -> Iterator[str]:
    """Return what was written by an attempt whose receipt somebody else had closed."""
    last: dict[str, str] = {}  # key of a receipt: who wrote it last
    owner: dict[str, str] = {}
    closed: set[str] = set()  # instances whose receipts were closed by others
    for row in seen.access:
        if row.operation != "PutObject" or row.outcome != "ok":
            continue
        if re.fullmatch(re.escape(run_prefix(seen)) + r"_stages/[a-z]\w*/.+\.json", row.key):
            owner.setdefault(row.key, row.caller)
            last[row.key] = row.caller
            if row.caller != owner[row.key]:
                closed.add(owner[row.key])
        elif row.caller in closed and re.fullmatch(
            re.escape(run_prefix(seen)) + r"(\w+\.txt|_stages/[a-z]\w*\.json)", row.key
        ):
            yield f"{row.caller} wrote {row.key} after its attempt was closed"


def true_codes(seen: Evidence) -> Iterator[str]:
    """6: a receipt has its stage's code, a launch its stages', a launcher its launch's."""
    said = {line.tag: line.text for line in seen.truth if line.text.startswith("exit ")}
    codes = sorted(int(text.split()[1]) for text in said.values())
    failed = [code for code in codes if code]
    if seen.fault == "full-disk":
        codes.append(CANNOT)  # which the stage cannot note either
    closed = receipts(seen)
    for code in set(failed):
        own = [r for r in closed if r.get("code") == code]
        if len(own) < failed.count(code) and not (seen.fault in ABRUPT or "disk" in seen.fault):
            yield f"a stage ended with {code}, and no receipt says so"
    for values in closed:
        if values.get("outcome") == "failed" and values.get("code") == 0:
            yield f"the receipt {values.get('attempt')} failed with 0"
    first = seen.launchers[0]["code"]
    if told := re.search(r"exit-(\d+)$", seen.fault):
        if first != int(told[1]):
            yield f"the stage's code was {told[1]}, the launcher's {first}"
        if failed[:1] != [int(told[1])]:
            yield f"the stage did not end with {told[1]}"
    for done in seen.launchers:
        code = done["code"]
        if not (code in OWN or code in codes or code < 0 or code > 128):
            yield f"a launcher ended with {code}, which is nobody's code"
    yield from begun(seen)
    passing: tuple[str, ...] = PASSING
    if "launcher" not in seen.side:
        passing = (*PASSING, "outage", "no-credentials", *(f"{STORE}{form}" for form in FORMS))
    if seen.fault in passing and seen.reached and first != 0:
        yield f"what passes by itself ended a launcher with {first}"
    killed = seen.fault in ("kill", "kill-group", "crash") and seen.reached
    if killed and first not in (-9, 137, 0):
        yield f"a killed launcher ended with {first}"
    taken = {i["id"] for i in seen.instances if "SpotInstance" in i["reason"]}
    for values in launches(seen):
        if values.get("instance") in taken and values.get("outcome") == "lost":
            yield f"EC2 took {values['instance']} back, and its launch says lost"
        if (values.get("outcome") == "committed") != (values.get("code") == 0):
            how = f"{values.get('outcome')} with {values.get('code')}"
            yield f"the launch {values.get('launch')} is {how}"


def nothing_evaluated(seen: Evidence) -> Iterator[str]:
    """7: what the texts from outside would do in a shell was not done, and they came through."""
    if seen.touched:
        yield f"the text of an input was evaluated: {seen.touched}"
    for key in _made_for_others(seen, "EXECUTION_ID", seen.execution):
        yield f"{key} has another execution than the one that was given"


def dry_is_dry(seen: Evidence) -> Iterator[str]:
    """8: a dry run leaves nothing but a probe and launches nothing; any other is not dry."""
    if seen.fault.startswith("dry-run"):
        if left := [key for key in seen.versions if not key.startswith("_tmp/")]:
            yield f"a dry run wrote {left}"
        if seen.instances:
            yield "a dry run launched an instance"
        return
    if dry := [key for key in seen.versions if ".dry-run" in key]:
        yield f"a run that was not dry wrote {dry}"


def nothing_resolved_again(seen: Evidence) -> Iterator[str]:
    """9: launches, receipts and commits have one execution; launches of a launcher one code."""
    made = launches(seen)
    code: dict[str, tuple[Any, str]] = {}
    for values in [*made, *receipts(seen), *commits(seen).values()]:
        if values.get("execution_id", seen.execution) != seen.execution:
            yield f"a record has the execution {values.get('execution_id')}"
    for values in made:
        of = values["launch"].rpartition("-")[0]
        mine = (values.get("code_version"), json.dumps(values.get("bundle"), sort_keys=True))
        if code.setdefault(of, mine) != mine:
            yield f"the launch {values['launch']} has other code than the one before"
    versions = {values.get("launch"): values.get("code_version") for values in made}
    for values in receipts(seen):
        if "launch" in values and values.get("code_version") != versions.get(values["launch"]):
            yield f"the receipt {values.get('attempt')} has other code than its launch"
    known = {values.get("attempt"): values for values in receipts(seen)}
    for stage, values in commits(seen).items():
        receipt = known.get(values.get("attempt"), {})
        if receipt.get("code_version") not in (None, values.get("code_version")):
            yield f"the commit of {stage} has other code than its receipt"


def same_names(seen: Evidence) -> Iterator[str]:
    """10: variables, fields of the plan and of the records have the same names and values."""
    both = ("run_date", "execution_id", "code_version")
    for values in launches(seen):
        planned = values.get("plan", {})
        if wrong := [n for n in both if n not in values or planned.get(n) != values[n]]:
            yield f"the launch {values.get('launch')} and its plan differ in {wrong}"
    for values in [*receipts(seen), *commits(seen).values()]:
        if missing := {"stage", "attempt", *both} - values.keys():
            yield f"a record of {values.get('stage')} lacks {sorted(missing)}"
    for stage in STAGES:
        for body in seen.versions.get(f"{run_prefix(seen)}{stage}.txt", []):
            about = parsed(body.splitlines()[0] if body else b"")
            uri = about.get("ARTIFACTS_URI", "")
            if about.get("STAGE") != stage or not uri.endswith(
                f"{seen.prefix}{run_prefix(seen)}".rstrip("/")
            ):
                yield f"{stage} was told STAGE={about.get('STAGE')} and ARTIFACTS_URI={uri}"


CHECKS: dict[int, Callable[[Evidence], Iterator[str]]] = dict(
    enumerate(
        (one_date, complete, one_commit, all_end, no_log_lost, true_codes, nothing_evaluated,
         dry_is_dry, nothing_resolved_again, same_names, no_work_lost), start=1,
    )
)  # fmt: skip
