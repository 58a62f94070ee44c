"""Random interleavings of launches, reclaims, cancels, crashes and reaps against a model.

After every step the instances, the launch records and all that is in the store are compared with
what the model has.
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
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests import launches
from tests.children import until
from tests.interleavings import DATES, RECEIPT, WAITS, budget, last, plain, words
from tests.lab.aws import AwsLab
from tests.launches import MARK, Spot, kill_all
from tests.model import NEEDS, PRODUCT, STAGES, Attempt, Cut, Does, Expected, Model, Run, Where
from tests.stages import read_all, sha256

BOTH = STAGES[:2]
dated = st.sampled_from([Where(DATES[0]), Where(DATES[0]), Where(DATES[1])])
ends = st.sampled_from(["make", "make", 3])
fresh = st.builds(
    Run,
    where=dated,
    stages=st.just(BOTH),
    does=st.fixed_dictionaries(
        {"backtest": plain, "parity": st.builds(Does, words, st.booleans(), ending=ends)}
    ),
)


class There(RuleBasedStateMachine):
    """Launches in the lab's EC2, of backtest and parity, with S3 for a store."""

    aws: AwsLab
    tool: Path
    base: Path
    made = 0

    def __init__(self) -> None:
        super().__init__()
        type(self).made += 1
        self.folder = self.base / f"{self.made}"
        self.spot = Spot(self.aws, self.tool, self.folder, attempts=2)
        self.spot.use(f"{self.made}")
        for stage in BOTH:
            self.spot.table.stage(stage, f'. "{self.folder}/$RUN_DATE/$STAGE"',
                                  produces=[PRODUCT[stage]], needs=NEEDS[stage],
                                  requires=[PRODUCT[n] for n in NEEDS[stage]])  # fmt: skip
        self.model = Model()
        self.launched = 0
        self.outcomes: Counter[str] = Counter()
        self.abandoned: dict[Where, tuple[str, Generator[Attempt, Cut, Expected]]] = {}

    def teardown(self) -> None:
        for name in self.aws.alive():
            self.aws.instances[name].machine.kill()
            self.aws.ec2.end(self.aws.instances[name], ("", ""))
        launches.end_all()
        until(lambda: self.aws.alive() == [])

    @rule(run=fresh, resume=st.booleans())
    def launch(self, run: Run, resume: bool) -> None:
        """Launch an instance and follow it to its end; what is left of the date's last one goes."""
        run = self._named(dataclasses.replace(run, resume=resume))
        expected = last(self.model.play(run))
        self._compare(run, expected, self._start(run, hold=False))
        self.outcomes["failed" if expected.code else "committed"] += 1

    @rule(run=fresh, notices=st.lists(st.sampled_from([None, 3.0]), min_size=1, max_size=2))
    def reclaim(self, run: Run, notices: list[float | None]) -> None:
        """Take the instance back while it works, and perhaps the next one too: 75 then."""
        run = self._named(run)
        play, launcher = self._held(run)
        for number, notice in enumerate(notices):
            if number:
                play = self.model.play(run, BOTH[0])
                next(play)
                self._begun(run, launcher)
            last(play, Cut(how="supervisor"))
            name = self._at_work()
            if number + 1 < 2 == len(notices):
                (self.folder / run.where.date / "begun").unlink()
            elif len(notices) == 1:
                (self.folder / run.where.date / "go").touch()
            self.aws.reclaim(name, notice)
            until(lambda gone=name: gone not in self.aws.alive())
        self.outcomes["reclaimed"] += len(notices)
        if len(notices) == 2:
            self._compare(run, Expected(75), launcher)
            return
        expected = last(self.model.play(run))
        self._compare(run, expected, launcher)
        self.outcomes["failed" if expected.code else "committed"] += 1

    @rule(run=fresh)
    def cancel(self, run: Run) -> None:
        """Kill the launcher's process group: what outlives it ends the instance."""
        run = self._named(run)
        play, launcher = self._held(run)
        os.killpg(launcher.pid, signal.SIGKILL)
        last(play, Cut(how="supervisor"))
        self._compare(run, Expected(-9), launcher)
        until(lambda: {r["state"] for r in self._records(run.where)} == {"closed"})
        self.outcomes["ended"] += 1

    @rule(run=fresh)
    def crash(self, run: Run) -> None:
        """Kill all of the launcher at once: the instance works on."""
        run = self._named(run)
        play, launcher = self._held(run)
        name = self._at_work()
        kill_all(self.folder)
        self._compare(run, Expected(-9), launcher)
        self.abandoned[run.where] = name, play

    @rule(dry=st.booleans())
    def reap(self, dry: bool) -> None:
        """End what was abandoned, or only say so; instances at work would be kept."""
        command = ["bash", str(self.tool / "spot_backtest.sh"), "reap"]
        done = subprocess.run(
            [*command, *(["--dry-run"] if dry else [])],
            env=self.spot.env(), capture_output=True, text=True, check=True,
        )  # fmt: skip
        verdict = f"{'would end' if dry else 'ended'}: its launcher is gone"
        names = [name for name, _ in self.abandoned.values()]
        assert sorted(done.stdout.splitlines()) == sorted(f"{n}  {verdict}" for n in names)
        for where in [] if dry else list(self.abandoned):
            self._end(where)

    @precondition(lambda self: self.abandoned)
    @rule()
    def work_on(self) -> None:
        """Let an abandoned instance finish: it commits, closes its record and ends itself."""
        where, (name, play) = self.abandoned.popitem()
        (self.folder / where.date / "go").touch()
        until(lambda: name not in self.aws.alive())
        self.outcomes["failed" if last(play, Cut()).code else "committed"] += 1

    @rule(run=fresh)
    def only_prices(self, run: Run) -> None:
        """Ask for a dry run: nothing is launched, and nothing ended."""
        if run.where not in self.abandoned:
            done = self.spot.end(self._start(run, False, "--dry-run"))
            assert done.code == 0, done.err

    @rule(where=dated, stage=st.sampled_from(BOTH), change=st.booleans())
    def meddle(self, where: Where, stage: str, change: bool) -> None:
        """Change an artifact behind the tool's back, or delete it."""
        files, path = self.model.files.get(where, {}), PRODUCT[stage]
        if path in files and change:
            files[path] = b"x" + files[path][1:]
            self.spot.store.put(where.prefix + path, files[path])
        elif path in files:
            del files[path]
            self.spot.store.delete(where.prefix + path)

    @invariant()
    def agrees(self) -> None:
        """Compare instances, launches, and all that is in the store with the model."""
        until(lambda: sorted(self.aws.alive()) == sorted(n for n, _ in self.abandoned.values()))
        there = {o.key for o in self.spot.store.list("")}
        found: Counter[str] = Counter()
        for where in map(Where, DATES):
            for record in self._records(where):
                found[record.get("outcome", record["state"])] += 1
                assert record["run_date"] == where.date
            files = self.model.files.get(where, {})
            held = {p: self.spot.store.digest(where.prefix + p) for p in files}
            assert held == {p: sha256(body) for p, body in files.items()}
            known = [re.escape(p) for p in files]
            known += [f"_stages/{stage}.json" for stage in self.model.commits.get(where, {})]
            known += [r"_stages/_claim\.json", r"_stages/_(launches|checkpoints)/.+"]
            known += [RECEIPT.pattern, r"_stages/\w+/[^/]+\.failed/.+"]
            expected = Counter[tuple[str, int | None]]()
            ends = Counter[tuple[str, int | None]]()
            for stage in BOTH:
                expected.update(self.model.receipts.get(where, {}).get(stage, []))
                for one in read_all(self.spot.store, f"{where.prefix}_stages/{stage}/"):
                    end = one.get("outcome", one["state"]), one.get("code")
                    ends[("lost", None) if end == ("reclaimed", 75) else end] += 1
                body = self.spot.store.read(f"{where.prefix}_stages/{stage}.json")
                commit = self.model.commits.get(where, {}).get(stage)
                assert (body is None) == (commit is None), (where, stage)
                if body and commit:
                    listed = json.loads(body[0])
                    shas = {p: a["sha256"] for p, a in listed["artifacts"].items()}
                    assert shas == {p: sha256(text) for p, text in commit.artifacts.items()}
                    who = (listed["run_date"], listed["execution_id"])
                    assert who == (where.date, commit.execution)
            expected[("open", None)] += where in self.abandoned
            assert ends == +expected, where
            inside = re.compile(f"{re.escape(where.prefix)}({'|'.join(known)})")
            logs = f"_ssm_logs/(?:spot|backtest|parity)/{where.date}/.+"
            there -= {k for k in there if inside.fullmatch(k) or re.fullmatch(logs, k)}
        assert found == +(self.outcomes + Counter(open=len(self.abandoned)))
        assert {key for key in there if not key.startswith("_bundles/")} == set()

    def _named(self, run: Run) -> Run:
        """Return a run as an execution of its own; what is left of its date's last launch goes."""
        if run.where in self.abandoned:
            self._end(run.where)
        self.launched += 1
        return dataclasses.replace(run, execution=f"execution-{self.launched}")

    def _at_work(self) -> str:
        """Return the instance that a launcher looks after."""
        (name,) = set(self.aws.alive()) - {name for name, _ in self.abandoned.values()}
        return name

    def _end(self, where: Where) -> None:
        _, play = self.abandoned.pop(where)
        last(play, Cut(how="supervisor"))
        self.outcomes["lost"] += 1

    def _held(self, run: Run) -> tuple[Generator[Attempt, Cut, Expected], subprocess.Popen[str]]:
        """Launch an instance and let its first stage begin, but not end."""
        play = self.model.play(run, BOTH[0])
        next(play)
        launcher = self._start(run, hold=True)
        self._begun(run, launcher)
        return play, launcher

    def _begun(self, run: Run, launcher: subprocess.Popen[str]) -> None:
        self.spot.until(launcher, (self.folder / run.where.date / "begun").exists)

    def _start(self, run: Run, hold: bool, *words: str) -> subprocess.Popen[str]:
        scripts = self.folder / run.where.date
        shutil.rmtree(scripts, ignore_errors=True)
        scripts.mkdir()
        for stage in BOTH:
            waits = f"cd {scripts}; {WAITS}\n" if hold and stage == BOTH[0] else ""
            (scripts / stage).write_text(f"{waits}{run.of(stage).script(stage)}\n")
        given = ["--date", run.where.date, *(["--resume"] if run.resume else [])]
        mark = {MARK: str(self.folder), "EXECUTION_ID": run.execution}
        return self.spot.start(*given, *words, **mark)

    def _compare(self, run: Run, expected: Expected, launcher: subprocess.Popen[str]) -> None:
        done = self.spot.end(launcher)
        said = f"{run}\n{done.out}\n{done.err}\n{self.spot.console()}"
        assert done.code == expected.code, f"not {expected}\n{said}"

    def _records(self, where: Where) -> list[dict[str, Any]]:
        return read_all(self.spot.store, f"{where.prefix}_stages/_launches/")


@pytest.mark.slow
def test_whatever_happens_to_launches_the_store_is_what_the_model_says(
    aws: AwsLab, tool: Path, tmp_path: Path
) -> None:
    """Invariants 2, 4 and 9: no instance is left but one that works, and reap finds that."""
    machine = type("Machine", (There,), {"aws": aws, "tool": tool, "base": tmp_path / "spot"})
    run_state_machine_as_test(machine, settings=budget(5, 3))
