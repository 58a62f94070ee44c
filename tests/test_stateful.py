"""Random interleavings of runs, skips, resumes, kills, reclaims and dates against a model.

After every step the store is compared with what the model has: each artifact by its SHA-256, each
commit, each receipt, and every other key.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from shim.store import open_store
from tests.children import PATIENCE, alive, children, until
from tests.entry import ENTRY
from tests.interleavings import DATES, RECEIPT, WAITS, budget, last, plain, words
from tests.lab.patches import patches
from tests.model import (
    MORE,
    NEEDS,
    PRODUCT,
    STAGES,
    Committed,
    Cut,
    Does,
    Expected,
    Model,
    Run,
    Where,
)
from tests.stages import Table, sha256
from tests.test_kill import idle

STEPS = 8
# Holds a process at a write, or after it, until a test lets it go on.
HOLD = """
import os, pathlib, time
_put = DirectoryStore.put
def _hold(when, key):
    wanted = os.environ.get("HOLD", "no key").split()
    if when == wanted[0] and key.endswith(wanted[1]):
        pathlib.Path(os.environ["HOLD_IN"], "begun").touch()
        while not pathlib.Path(os.environ["HOLD_IN"], "go").exists():
            time.sleep(0.01)
def _held(self, key, *more, **named):
    _hold("before", key)
    done = _put(self, key, *more, **named)
    _hold("after", key)
    return done
DirectoryStore.put = _held
"""
TRAPS = {"dies": "", "exits": "trap 'exit 3' TERM", "finishes": "trap 'touch go' TERM"}
NEED = re.compile(r"(\w+) needs (\w+), and")
ROW = re.compile(r"^(\w+) +(\S.*?) +(?:\d+|-)  \S+$", re.M)

endings = st.sampled_from(["make"] * 6 + ["lack", "foreign"])
codes = st.sampled_from([1, 3, 65, 75, 137, 194, 255])
does = st.builds(Does, words, st.booleans(), st.booleans(), endings | codes)
# Mostly one date: what happens to a state is of more interest than how many there are.
wheres = st.sampled_from(
    [Where(DATES[0])] * 5 + [Where(DATES[0], True)] + [Where(d) for d in DATES[1:]]
)
some = st.sampled_from([*[STAGES] * 3, *[(s,) for s in STAGES], STAGES[:2], STAGES[1:], ()])
one_in_four = st.sampled_from([False, False, False, True])
runs = st.builds(
    Run,
    where=wheres,
    stages=some,
    execution=st.sampled_from(["one", "one", "two"]),
    resume=st.booleans(),
    trust=one_in_four,
    check_only=st.sampled_from([False] * 7 + [True]),
    ssm=one_in_four,
    form=st.integers(0, 5),
    does=st.fixed_dictionaries(dict.fromkeys(STAGES, does)),
)
moments = st.sampled_from(["running", "running", "publishing", "committing", "committed"])
traps = st.sampled_from(["dies", "dies", "exits", "finishes"])
stages = st.sampled_from(STAGES)
# Runs whose stages come to their end when they are left alone.
steady = st.builds(
    Run,
    where=wheres,
    execution=st.sampled_from(["one", "two"]),
    resume=one_in_four,
    ssm=one_in_four,
    does=st.fixed_dictionaries(dict.fromkeys(STAGES, plain)),
)
MEDDLES = ("change", "flip", "delete", "touch", "restore", "by hand", "forget", "copy")


class Here(RuleBasedStateMachine):
    """Runs of the entry on this machine, with a directory for a store."""

    base: Path
    texts: Mapping[str, str]

    def __init__(self) -> None:
        super().__init__()
        self.folder = self.base / "here"
        self.folder.mkdir()
        self.root = self.folder / "store"
        self.table = Table(self.folder, open_store(str(self.root)))
        for stage in STAGES:
            reads = [PRODUCT[need] for need in NEEDS[stage]]
            self.table.stage(stage, '. "$SCRIPTS/$STAGE"', produces=[PRODUCT[stage]],
                             needs=NEEDS[stage], requires=reads)  # fmt: skip
        self.model = Model()
        self.scripts = 0
        self.started: list[subprocess.Popen[str]] = []
        self.digests: dict[Any, str] = {}
        changed = {"shim.directory": HOLD, **self.texts}
        self.env = self.table.env(patches(self.folder / "patches", changed))

    def teardown(self) -> None:
        (self.folder / "go").touch()
        for entry in self.started:
            for pid in (*_below(entry.pid), entry.pid):
                with suppress(ProcessLookupError):
                    if entry.poll() is None:
                        os.kill(pid, signal.SIGKILL)
            entry.communicate(timeout=PATIENCE)
        shutil.rmtree(self.folder)

    @initialize(run=runs, empty=one_in_four)
    def a_first_run(self, run: Run, empty: bool) -> None:
        """Mostly all of a date is there at first."""
        if not empty:
            quiet = dict.fromkeys(STAGES, Does())
            self.run(dataclasses.replace(run, stages=STAGES, check_only=False, does=quiet))

    @rule(run=runs)
    def run(self, run: Run) -> None:
        """Run some stages, in any of the ways to ask for it."""
        self._compare(run, last(self.model.play(run)), self._start(run))

    @rule(where=wheres, stage=stages, does=plain)
    def rebuild(self, where: Where, stage: str, does: Does) -> None:
        """Run one stage again, the later ones having committed or not."""
        self.run(Run(where, (stage,), does={stage: does}))

    @rule(where=wheres)
    def resume(self, where: Where) -> None:
        """Bring a date to its end: after that every stage is complete."""
        self.run(Run(where, resume=True))
        assert all(self.model.verifies(where, stage) for stage in STAGES)

    @rule(run=steady, held=stages, moment=moments, trap=traps)
    def stop(self, run: Run, held: str, moment: str, trap: str) -> None:
        """Cancel a run, which is told."""
        self._interrupt(run, held, Cut(moment, "term", trap))

    @rule(run=steady, held=stages, moment=moments, trap=traps)
    def reclaim(self, run: Run, held: str, moment: str, trap: str) -> None:
        """Cancel a run on an instance that EC2 takes back."""
        self._interrupt(run, held, Cut(moment, "term", trap, noticed=True))

    @rule(
        run=steady,
        held=stages,
        moment=moments,
        trap=traps,
        who=st.sampled_from(["caller", "caller", "supervisor", "both"]),
        noticed=one_in_four,
    )
    def kill(self, run: Run, held: str, moment: str, trap: str, who: str, noticed: bool) -> None:
        """Kill a run, which is not told, and run the same command again."""
        self._interrupt(run, held, Cut(moment, who, trap, noticed))
        self.agrees()
        self.run(run)

    @rule(
        run=steady,
        held=stages,
        moment=moments,
        how=st.sampled_from(["go", "go", "term", "both"]),
        other=runs,
        apart=one_in_four,
    )
    def two_at_once(
        self, run: Run, held: str, moment: str, how: str, other: Run, apart: bool
    ) -> None:
        """Start another run, mostly of the same date, while one is at work."""
        other = other if apart else dataclasses.replace(other, where=run.where)
        self._interrupt(run, held, Cut(moment, how), other)

    def _interrupt(self, run: Run, held: str, cut: Cut, other: Run | None = None) -> None:
        """Hold a stage at a moment, do something else or not, then end or kill it."""
        ready = not any(self.model.refuses(run, need) for need in NEEDS[held])
        run = dataclasses.replace(run, stages=STAGES[STAGES.index(held) :] if ready else STAGES)
        play = self.model.play(run, held, cut.moment)
        try:
            next(play)
        except StopIteration as kept:
            self._compare(run, kept.value, self._start(run))
            return
        entry = self._start(run, held, cut)
        until(lambda: (self.folder / "begun").exists() or entry.poll() is not None)
        self.agrees()
        if other:
            self.run(other)
            self.agrees()
        supervisor = self._cut(run.where, held, cut, entry)
        self._compare(run, last(play, cut), entry)
        until(lambda: not alive(supervisor))
        if cut.moment == "running":
            child = int((self.folder / "child").read_text())
            until(lambda: not alive(child))

    @rule(
        where=wheres,
        stage=stages,
        more=one_in_four,
        how=st.sampled_from(MEDDLES),
        source=wheres,
    )
    def meddle(self, where: Where, stage: str, more: bool, how: str, source: Where) -> None:
        """Do something behind the tool's back: to an artifact, to a commit, from another date."""
        files = self.model.files.setdefault(where, {})
        commits = self.model.commits.setdefault(where, {})
        path = MORE[stage] if more else PRODUCT[stage]
        body, listed = files.get(path), commits.get(stage)
        if how == "forget" and listed:
            del commits[stage]
            self._file(where, f"_stages/{stage}.json").unlink()
        elif how == "copy" and source != where and stage in self.model.commits.get(source, {}):
            commits[stage] = self.model.commits[source][stage]
            target = self._file(where, f"_stages/{stage}.json")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(self._file(source, f"_stages/{stage}.json"), target)
            for name in commits[stage].artifacts:
                if name in self.model.files[source]:
                    self._put(where, name, self.model.files[source][name])
        elif how == "by hand":
            self._put(where, path, b"by hand\n")
        elif how == "restore" and listed and path in listed.artifacts:
            self._put(where, path, listed.artifacts[path])
        elif body is not None and how == "delete":
            del files[path]
            self._file(where, path).unlink()
        elif body is not None and how in ("change", "flip", "touch"):
            self._put(where, path, {"change": body + b"x", "flip": b"x" + body[1:]}.get(how, body))

    @invariant()
    def agrees(self) -> None:
        """Compare all that is in the store with the model."""
        there = {p: (self.root / p).read_bytes() for p in _walk(self.root)}
        wheres = {where for where, found in self.model.receipts.items() if found}
        wheres |= {one.run.where for one in (*self.model.running, *self.model.left)}
        for where in {*wheres, *self.model.files, *self.model.commits}:
            mine = {p for p in there if p.startswith(where.prefix)}
            inside = {p.removeprefix(where.prefix): there.pop(p) for p in mine}
            self._records(where, inside, where in wheres)
            files = self.model.files.get(where, {})
            found = {p: sha256(body) for p, body in inside.items()}
            assert found == {p: sha256(body) for p, body in files.items()}, where
            logs = tuple(map(where.logs, STAGES))
            for path in [p for p in there if p.startswith(logs)]:
                del there[path]
        assert sorted(there) == [], "nothing is written anywhere else"

    def _records(self, where: Where, inside: dict[str, bytes], claimed: bool) -> None:
        """Compare a date's records and take them out of what is there."""
        assert ("_stages/_claim.json" in inside) == claimed
        inside.pop("_stages/_claim.json", None)
        receipts: dict[str, dict[str, Any]] = {stage: {} for stage in STAGES}
        for path in list(inside):
            if match := RECEIPT.fullmatch(path):
                receipts[match[1]][match[2]] = json.loads(inside.pop(path))
        for stage in STAGES:
            expected = Counter(self.model.receipts.get(where, {}).get(stage, []))
            expected[("open", None)] += sum(
                (one.run.where, one.stage) == (where, stage)
                for one in (*self.model.running, *self.model.left)
            )
            ends = [(r.get("outcome", r["state"]), r.get("code")) for r in receipts[stage].values()]
            assert Counter(ends) == +expected, (where, stage)
            assert all(r["run_date"] == where.date for r in receipts[stage].values())
        commits = self.model.commits.get(where, {})
        for stage in STAGES:
            body = inside.pop(f"_stages/{stage}.json", None)
            assert (body is not None) == (stage in commits), (where, stage)
            if body is not None:
                self._same(json.loads(body), commits[stage])

    def _same(self, found: Mapping[str, Any], commit: Committed) -> None:
        """Compare a commit; digests are equal where contents are, and only there."""
        assert {p: (a["size"], a["sha256"]) for p, a in found["artifacts"].items()} == {
            p: (len(body), sha256(body)) for p, body in commit.artifacts.items()
        }
        who = (found["stage"], found["run_date"], found["execution_id"])
        assert who == (commit.stage, commit.run_date, commit.execution)
        assert found["built_on"].keys() == commit.built_on.keys()
        for need, content in commit.built_on.items():
            digest = found["built_on"][need]
            assert (digest is None) == (content is None)
            if content is not None:
                assert self.digests.setdefault(content, digest) == digest
        assert len(set(self.digests.values())) == len(self.digests)

    def _start(self, run: Run, held: str = "", cut: Cut | None = None) -> subprocess.Popen[str]:
        self.scripts += 1
        scripts = self.folder / f"scripts-{self.scripts}"
        scripts.mkdir()
        flags, env = run.words()
        env["SCRIPTS"] = str(scripts)
        for stage in STAGES:
            waits = f"{TRAPS[cut.trap]}\n{WAITS}\n" if cut and stage == held else ""
            waits = waits if cut and cut.moment == "running" else ""
            (scripts / stage).write_text(f"{waits}{run.of(stage).script(stage)}\n")
        if cut:
            for name in ("begun", "go", "child", "notice"):
                (self.folder / name).unlink(missing_ok=True)
            record = f"_stages/{held}.json"
            moments = {"publishing": f"before /{PRODUCT[held]}", "committing": f"before {record}"}
            hold = {**moments, "committed": f"after {record}"}.get(cut.moment, "no key")
            env |= {"HOLD": hold, "HOLD_IN": str(self.folder)}
            if cut.noticed:
                notice = str(self.folder / "notice")
                env |= {"SPOT_LAUNCH": "a-launch", "SPOT_RECLAIM": notice}
        given = ["--pipeline", str(self.table.path), "--store", str(self.root)]
        entry = subprocess.Popen(
            [str(ENTRY), *given, *flags],
            cwd=self.folder,
            env={**self.env, **env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.started.append(entry)
        return entry

    def _cut(self, where: Where, held: str, cut: Cut, entry: subprocess.Popen[str]) -> int:
        """Do to a held run what is to be done; return the pid of its supervisor."""
        paths = self._file(where, f"_stages/{held}").glob("*.json")
        (receipt,) = [r for p in paths if (r := json.loads(p.read_text()))["state"] == "open"]
        supervisor = int(receipt["pid"])
        front = int(Path(f"/proc/{supervisor}/stat").read_text().rpartition(")")[2].split()[1])
        running = cut.moment == "running"
        if cut.noticed:
            (self.folder / "notice").touch()
        if cut.how == "term":
            # Later than that the entry's own trap cannot be waited for.
            os.kill(entry.pid if running else front, signal.SIGTERM)
            until(lambda: running or idle(front))
        if cut.how == "caller":
            os.kill(entry.pid, signal.SIGKILL)
            until(lambda: not alive(front))
        if cut.how == "both":  # held first, so that neither sees the other's end
            os.kill(front, signal.SIGSTOP)
        if cut.how in ("supervisor", "both"):
            os.kill(supervisor, signal.SIGKILL)
            until(lambda: not alive(supervisor))
        if cut.how == "both":
            os.kill(front, signal.SIGKILL)
        if not running or cut.how == "go":
            (self.folder / "go").touch()
        return supervisor

    def _compare(self, run: Run, expected: Expected, entry: subprocess.Popen[str]) -> None:
        """Wait for a run's end and compare it with what was expected."""
        out, err = entry.communicate(timeout=PATIENCE)
        self.started.remove(entry)
        said = f"{run}\n{out}\n{err}"
        assert entry.returncode == expected.code, f"not {expected}\n{said}"
        if expected.code != -signal.SIGKILL:
            rows = {name: outcome for name, outcome in ROW.findall(out) if name in STAGES}
            assert rows == expected.outcomes, said
            assert set(NEED.findall(err)) == expected.refused, said

    def _file(self, where: Where, path: str) -> Path:
        return self.root / where.prefix / path

    def _put(self, where: Where, path: str, body: bytes) -> None:
        self.model.files.setdefault(where, {})[path] = body
        file = self._file(where, path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(body)


def _walk(root: Path) -> Iterator[str]:
    """Return every key of a directory store."""
    for path in root.rglob("*"):
        if path.is_file() and path.name != ".shim-lock":
            yield path.relative_to(root).as_posix()


def _below(pid: int) -> Iterator[int]:
    """Return all that a process has started."""
    for child in children(pid):
        yield from _below(child)
        yield child


@pytest.mark.slow
def test_whatever_happens_here_the_store_is_what_the_model_says(tmp_path: Path) -> None:
    """Invariants 1, 2, 3, 6 and 8."""
    machine = type("Machine", (Here,), {"base": tmp_path, "texts": {}})
    run_state_machine_as_test(machine, settings=budget(9, STEPS))


BUGS = {
    "every commit verifies": {"shim.commit": "problems = lambda *_: []"},
    "--resume keeps every commit": {
        "shim.stage": "_Run._committed = lambda self: "
        "commit.read(self.store, self.plan.run_prefix, self.stage.name) is not None"
    },
    "a dry run is real": {"shim.plan": "DRY_RUN = ''"},
}


@pytest.mark.slow
@pytest.mark.parametrize("bug", BUGS)
def test_a_bug_is_found_by_the_machine(tmp_path: Path, bug: str) -> None:
    """Within the budget of the other tests."""
    machine = type("Machine", (Here,), {"base": tmp_path, "texts": BUGS[bug]})

    with pytest.raises(AssertionError, match=r"assert|not Expected"):
        run_state_machine_as_test(machine, settings=budget(10, STEPS))
