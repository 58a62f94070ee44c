"""The crash sweep: a checker that can fail, the list of cases, a sample, every seeded bug."""

from __future__ import annotations

import copy
import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.crash import pool, report
from tests.crash.bugs import BUGS
from tests.crash.cases import AWAY, STORE, cases, recorded
from tests.crash.checker import CHECKS, violated
from tests.crash.evidence import Access, Evidence, Line, parsed
from tests.crash.record import clean_run
from tests.crash.sweep import run
from tests.lab.outage import FORMS

DATE, ID, LAUNCH = "2026-05-17", "i-1", "20260517T120000Z-beef-1"
RUN = f"backtest/{DATE}/"
RECORD = f"{RUN}_stages/_launches/{LAUNCH}.json"
LOG = f"_ssm_logs/spot/{DATE}/{ID}.log"
SPREAD = 33  # cases of the sample: some of each fault
# And with them each moment at which the store goes away.
MORE = {("store-unresolvable", "launcher PutObject probe"), ("store-refused", "stage/a-end")}
SAMPLE = [
    case
    for case in cases()
    if case.number in pool.spread(SPREAD) or (case.fault, case.side.name) in MORE
]
Change = Callable[[Evidence], object]


def held() -> Evidence:
    """Return the evidence of a run in which everything holds, made by hand."""
    common = {"run_date": DATE, "execution_id": "once", "code_version": "abc"}
    ended = [{"code": code, "out": "", "err": "", "at": 20.0 + code} for code in (37, 0)]
    seen = Evidence("exit-37", "at stage/a-end", True, 100.0, DATE, "once", "some prefix/", ended)
    digest: str | None = None
    for stage in ("a", "b"):
        uri = f"s3://lab/some prefix/{RUN}".rstrip("/")
        about = {"RUN_DATE": DATE, "STAGE": stage, "EXECUTION_ID": "once", "ARTIFACTS_URI": uri}
        body = json.dumps(about).encode()
        listed = {"size": len(body), "sha256": hashlib.sha256(body).hexdigest(), "etag": "x"}
        below: dict[str, str] = {"a": digest} if digest else {}
        commit = {**common, "stage": stage, "attempt": f"{stage}-2",
                  "artifacts": {f"{stage}.txt": listed}, "built_on": below}  # fmt: skip
        rows = [[f"{stage}.txt", listed["size"], listed["sha256"]]]
        digest = hashlib.sha256(json.dumps([stage, DATE, rows]).encode()).hexdigest()
        receipt = {**common, "stage": stage, "attempt": f"{stage}-2", "state": "closed",
                   "outcome": "committed", "code": 0, "launch": LAUNCH}  # fmt: skip
        _put(seen, f"{RUN}_stages/{stage}/{stage}-2.json", receipt)
        _put(seen, f"{RUN}{stage}.txt", body)
        _put(seen, f"{RUN}_stages/{stage}.json", commit)
        _put(seen, f"_ssm_logs/{stage}/{DATE}/host.log", f"{stage}-7 line 1\n".encode())
        seen.truth.append(Line(50.0, f"{stage}-7", "line 1"))
    failed = {**common, "stage": "a", "attempt": "a-1", "state": "closed", "outcome": "failed",
              "code": 37, "launch": LAUNCH}  # fmt: skip
    _put(seen, f"{RUN}_stages/a/a-1.json", failed)
    seen.truth.append(Line(40.0, "a-6", "exit 37"))
    _put(seen, f"_ssm_logs/a/{DATE}/host-1.log", b"a-6 exit 37\n")
    _put(seen, LOG, b"a-6 exit 37\na-7 line 1\nb-7 line 1\n")
    _put(seen, RECORD, {**common, "launch": LAUNCH, "state": "closed", "outcome": "committed",
                        "code": 0, "instance": ID, "log": LOG, "plan": common})  # fmt: skip
    values = {"launch": f"s3://lab/some prefix/{RECORD}", "deadline": "then", "seconds": "3600"}
    tags = {f"spot-backtest:{name}": value for name, value in values.items()}
    seen.instances = [{"id": ID, "state": "terminated", "reason": "", "tags": tags}]
    seen.lives = {ID: (10.0, 90.0)}
    seen.orders = {ID: [["systemd-run", "--on-active=1800s", "shutdown", "-h", "now"]]}
    seen.access.append(Access(90.0, "launcher", "TerminateInstances", f"['{ID}']", "ok"))
    return seen


def _put(seen: Evidence, key: str, value: object) -> None:
    """Write an object, as an instance does."""
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    seen.objects[key] = body
    seen.versions.setdefault(key, []).append(body)
    seen.access.append(Access(50.0, ID, "PutObject", key, "ok"))


def _set(key: str, **values: object) -> Change:
    return lambda seen: _put(seen, key, {**parsed(seen.objects[key]), **values})


def _without(key: str, name: str) -> Change:
    def change(seen: Evidence) -> None:
        values = parsed(seen.objects[key])
        del values[name]
        _put(seen, key, values)

    return change


def _away(**launcher: object) -> Change:
    """Return a change after which the store was away when the first launcher asked it."""

    def change(seen: Evidence) -> None:
        seen.fault, seen.side = "store-refused", "before launcher PutObject probe"
        seen.launchers[0].update(launcher)  # type: ignore[attr-defined]

    return change


A, COMMIT, RECEIPT = f"{RUN}a.txt", f"{RUN}_stages/a.json", f"{RUN}_stages/a/a-2.json"
MUTATIONS: list[tuple[int, str, Change]] = [
    (1, "a key of another day", lambda s: _put(s, "backtest/2026-05-18/a.txt", b"")),
    (1, "a log of another day", lambda s: _put(s, "_ssm_logs/a/2026-05-18/x.log", b"")),
    (1, "a record of another day", _set(RECEIPT, run_date="2026-05-18")),
    (1, "an artifact of another day", lambda s: _put(s, f"{RUN}a.txt", b'"RUN_DATE": "x"')),
    (2, "an artifact is gone", lambda s: s.objects.pop(f"{RUN}a.txt")),
    (2, "an artifact was changed", lambda s: _put(s, f"{RUN}a.txt", b"x")),
    (2, "a commit is gone", lambda s: s.objects.pop(COMMIT)),
    (2, "a commit came first", lambda s: s.access.sort(key=lambda r: "_stages" not in r.key)),
    (2, "b has another a below", _set(f"{RUN}_stages/b.json", built_on={"a": "x"})),
    (2, "it does not recover", lambda s: s.launchers[-1].update(code=69)),  # type: ignore[attr-defined]
    (3, "a receipt is open", _set(RECEIPT, state="open")),
    (3, "two commits of one launcher", _set(COMMIT)),
    (3, "a commit without receipt", _set(COMMIT, attempt="a-9")),
    (3, "a late write", lambda s: s.access.extend(
        [Access(60.0, "i-2", "PutObject", RECEIPT, "ok"),
         Access(61.0, ID, "PutObject", f"{RUN}a.txt", "ok")])),
    (4, "an instance is alive", lambda s: s.instances[0].update(state="running")),
    (4, "an instance lacks a tag", lambda s: s.instances[0]["tags"].pop("spot-backtest:deadline")),
    (4, "a launch is open", _set(RECORD, state="open")),
    (4, "nobody ended it", lambda s: s.access.pop(-1)),
    (4, "its deadline came later", lambda s: s.orders.update({ID: [["shutdown", "-h", "now"]]})),
    (4, "a killed launcher left it", lambda s: s.__dict__.update(left_alive=[ID])),
    (4, "it was left for the sweep", lambda s: s.__dict__.update(orphans=[ID])),
    (4, "another beside it", lambda s: s.lives.update({"i-2": (20.0, 95.0)})),
    (5, "a line is in no log", lambda s: _put(s, f"_ssm_logs/a/{DATE}/host.log", b"")),
    (5, "a line is in no instance's log", lambda s: _put(s, LOG, b"a-7 line 1")),
    (5, "a record names no log", _without(RECORD, "log")),
    (6, "another code leaves", lambda s: s.launchers[0].update(code=1)),  # type: ignore[attr-defined]
    (6, "another code is noted", _set(f"{RUN}_stages/a/a-1.json", code=1)),
    (6, "a launch failed with 0", _set(RECORD, outcome="failed")),
    (6, "a launcher without a store left with another code", _away()),
    (6, "a launcher without a store said nothing", _away(code=69)),
    (6, "a launcher without a store launched", _away(code=69, err="spot_backtest: no; do")),
    (7, "a text was evaluated", lambda s: s.touched.append("pwned")),
    (7, "a text came otherwise", lambda s: s.versions[A].append(b'"EXECUTION_ID": "o"')),
    (8, "a wet run wrote dry", lambda s: _put(s, f"backtest/.dry-run/{DATE}/a.txt", b"")),
    (8, "a dry run wrote", lambda s: s.__dict__.update(fault="dry-run nothing")),
    (9, "another execution", _set(RECEIPT, execution_id="twice")),
    (9, "other code", _set(RECEIPT, code_version="def")),
    (9, "other code in the commit", _set(COMMIT, code_version="def")),
    (10, "a field is gone", _without(RECEIPT, "code_version")),
    (10, "the plan differs", _set(RECORD, execution_id="twice")),
    (10, "a variable is gone", lambda s: s.versions[f"{RUN}a.txt"].append(b"{}")),
    (11, "a stage was run again", lambda s: s.__dict__.update(fault="store-refused")),
]  # fmt: skip


def test_the_checker_finds_nothing_where_everything_holds() -> None:
    """What the mutations below begin with."""
    assert violated(held()) == {}


@pytest.mark.parametrize(("number", "change"), [(n, c) for n, _, c in MUTATIONS],
                         ids=[f"{n}: {name}" for n, name, _ in MUTATIONS])  # fmt: skip
def test_the_checker_names_the_invariant_that_does_not_hold(number: int, change: Change) -> None:
    """Each of the eleven can fail."""
    seen = copy.deepcopy(held())
    change(seen)
    assert number in violated(seen)


def test_every_invariant_is_among_the_mutations_and_the_seeded_bugs() -> None:
    """None of them is checked by words alone."""
    assert {number for number, _, _ in MUTATIONS} == set(CHECKS) == set(range(1, 12))
    assert {bug.breaks for bug in BUGS} == set(CHECKS)


def test_seeded_bugs_are_at_least_twenty_five_and_each_has_its_case() -> None:
    """A bug without a case would be caught by nobody."""
    assert len(BUGS) >= 25
    assert len({bug.name for bug in BUGS}) == len(BUGS)
    for bug in BUGS:
        assert bug.case().fault == bug.fault


def test_the_page_of_figures_is_of_the_cases_and_bugs_that_there_are() -> None:
    """Whoever changes either runs `make crash-all` again; what did not hold could not be there."""
    said = report.PAGE.read_text()
    # A second figure is of what was added since that run, and run apart.
    for count, what in ((len(cases()), "cases hold"), (len(BUGS), "seeded bugs are caught")):
        found = re.findall(rf"(\d+) of (\d+) {what}", said)
        assert all(some == of for some, of in found)
        assert sum(int(of) for _, of in found) == count
    for bug in BUGS:
        assert f"| {bug.name} | `{bug.fault}` {bug.side} | {bug.breaks} |" in said


def test_a_sample_is_spread_over_every_fault() -> None:
    """Its numbers are those of the list, none twice."""
    known = cases()
    assert [case.number for case in known] == list(range(1, len(known) + 1))
    for size in (SPREAD, 40, len(known)):
        chosen = pool.spread(size)
        assert len(set(chosen)) == size
    assert {case.fault for case in known if case.number in pool.spread(SPREAD)} == {
        case.fault for case in known
    }


def test_the_store_is_away_in_each_form_at_each_moment_and_the_sample_has_some_of_either() -> None:
    """I51: refused, unresolvable, silent, reset, 429, 503; all of them are in the sweep."""
    swept, sampled = (
        {(case.fault, case.side.name) for case in those if case.fault.startswith(STORE)}
        for those in (cases(), SAMPLE)
    )
    assert swept == {(f"{STORE}{form}", name) for form in FORMS for name in AWAY}
    assert {fault for fault, _ in sampled} == {f"{STORE}{form}" for form in FORMS}
    assert {name for _, name in sampled} == set(AWAY)


@pytest.mark.slow
def test_a_clean_run_meets_every_recorded_boundary(tool: Path, tmp_path: Path) -> None:
    """`python -m tests.crash record` takes down new ones; the numbers of cases then change."""
    assert set(recorded()) <= set(clean_run(tmp_path / "clean", tool))


@pytest.mark.slow
@pytest.mark.parametrize("case", SAMPLE, ids=str)
def test_every_invariant_holds_after_one_fault(case: object, tool: Path, tmp_path: Path) -> None:
    """One case of the sweep; `make crash-all` runs all of them."""
    found = run(case, tmp_path / "case", tool)  # type: ignore[arg-type]
    assert found.violated == {}, "\n".join(found.said)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(BUGS)), ids=[bug.name for bug in BUGS])
def test_a_seeded_bug_is_caught(number: int, tool: Path, tmp_path: Path) -> None:
    """By the invariant that it breaks; the end of pytest's output counts them.

    In up to three runs: a put without its condition shows only where two writers meet.
    """
    bug = BUGS[number]
    for again in range(3):
        found = run(bug.case(), tmp_path / f"case-{again}", tool, bug.change)
        if str(bug.breaks) in found.violated:
            return
    pytest.fail("\n".join([str(found.violated), *found.said]))
