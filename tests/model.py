"""A model of what is committed, for stateful tests: a few dicts, and what a run must do to them.

Nothing here is the shim's: what counts as complete is written down a second time, from DESIGN.md.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

STAGES = ("backtest", "parity", "evaluator")
NEEDS = {"backtest": (), "parity": ("backtest",), "evaluator": ("backtest", "parity")}
PRODUCT = {"backtest": "b.txt", "parity": "p.txt", "evaluator": "e.txt"}
MORE = {stage: f"a/{stage}.txt" for stage in STAGES}  # published before the product
Content = tuple[Any, ...]


@dataclass(frozen=True)
class Where:
    """A run date, for real or dry: what has one prefix in the store."""

    date: str
    dry: bool = False

    @property
    def prefix(self) -> str:
        """The run prefix."""
        return f"backtest/{'.dry-run/' if self.dry else ''}{self.date}/"

    def logs(self, stage: str) -> str:
        """Return the folder of a stage's logs."""
        return f"_ssm_logs/{'.dry-run/' if self.dry else ''}{stage}/{self.date}/"


@dataclass(frozen=True)
class Does:
    """What the command of a stage does: its word into the product, with what it reads if derived.

    `ending` is make, lack (0 without a product), foreign (0 with another's file), or an exit code.
    """

    word: str = "1"
    derived: bool = True
    more: bool = False
    ending: str | int = "make"

    def script(self, stage: str) -> str:
        """Return it for sh."""
        reads = [f"cat {PRODUCT[need]}" for need in NEEDS[stage] if self.derived]
        lines = ['cd "$ARTIFACTS_DIR"']
        if self.more:
            lines += ["mkdir a", f"echo more {self.word} > {MORE[stage]}"]
        if self.ending != "lack":
            lines.append(f"{{ {'; '.join([f'echo {self.word}', *reads])}; }} > {PRODUCT[stage]}")
        if self.ending == "foreign":
            lines.append(f"echo mine > {PRODUCT['parity' if stage == 'backtest' else 'backtest']}")
        if isinstance(self.ending, int):
            lines.append(f"exit {self.ending}")
        return "\n".join(lines)

    def files(self, stage: str, there: Mapping[str, bytes]) -> dict[str, bytes]:
        """Return what it publishes when it reads what is there."""
        read = [there[PRODUCT[need]] for need in NEEDS[stage] if self.derived]
        made = {PRODUCT[stage]: b"".join([f"{self.word}\n".encode(), *read])}
        return made | ({MORE[stage]: f"more {self.word}\n".encode()} if self.more else {})


@dataclass(frozen=True)
class Run:
    """What the entry is asked for. `form` chooses between equal ways to say it."""

    where: Where
    stages: tuple[str, ...] = STAGES
    execution: str = "one"
    resume: bool = False
    trust: bool = False
    check_only: bool = False
    ssm: bool = False
    form: int = 0
    does: Mapping[str, Does] = field(default_factory=dict)

    def of(self, stage: str) -> Does:
        """Return what a stage does in this run."""
        return self.does.get(stage, Does())

    def words(self) -> tuple[list[str], dict[str, str]]:
        """Return flags and environment."""
        flags = ["--dry-run"] if self.where.dry else []
        asked = {"resume": self.resume, "trust-existing": self.trust}
        asked["preflight-only"] = self.check_only
        flags += [f"--{name}" for name, wanted in asked.items() if wanted]
        env = {"EXECUTION_ID": self.execution, **({"SSM_COMMAND_ID": "c"} if self.ssm else {})}
        date = self.where.date
        dates: tuple[list[str], ...] = ["--date", date], [f"--date={date}T23:59:59Z"], []
        flags += dates[self.form % 3]
        env |= {"RUN_DATE": "2001-01-01" if dates[self.form % 3] else date}
        only, skip = self.stages, [s for s in STAGES if s not in self.stages]
        if skip:
            use_only = self.form % 2 == 0 and bool(only)
            name, names = ("only-stages", only) if use_only else ("skip-stages", skip)
            comma, equals = " , ".join(names), f"--{name}={','.join(names)}"
            forms: tuple[list[str], ...] = [f"--{name}", comma], [equals], []
            flags += forms[self.form // 2 % 3]
            if not forms[self.form // 2 % 3]:
                env[name.upper().replace("-", "_")] = f" {', '.join(names)},"
        return flags, env


@dataclass(frozen=True)
class Cut:
    """What happens to a stage that is held: at which moment, and how it goes on from there.

    Moments are running, publishing (before its last artifact), committing and committed. `how` is
    go, term, or which process is killed: caller, supervisor, both (of the attempt's own). `trap` is
    what the command does at TERM: dies, exits with 3, or finishes. With `noticed` EC2 takes the
    instance back.
    """

    moment: str = "running"
    how: str = "go"
    trap: str = "dies"
    noticed: bool = False


@dataclass(frozen=True)
class Committed:
    """A commit: its artifacts' bytes by path, and the content of what it was built on."""

    stage: str
    run_date: str
    execution: str
    artifacts: Mapping[str, bytes]
    built_on: Mapping[str, Content | None]

    @property
    def content(self) -> Content:
        """What makes two commits equal to those who are built on them."""
        return (self.stage, self.run_date, tuple(sorted(self.artifacts.items())))


@dataclass
class Attempt:
    """An attempt that has begun: what it will publish is settled."""

    run: Run
    stage: str
    made: dict[str, bytes]
    built_on: dict[str, Content | None]
    replaced: Committed | None
    commit: Committed | None = None


@dataclass
class Expected:
    """How a run ends: its exit code, each stage's outcome, which needs are refused."""

    code: int
    outcomes: dict[str, str] = field(default_factory=dict)
    refused: set[tuple[str, str]] = field(default_factory=set)


class Model:
    """What is in the store, by run date."""

    def __init__(self) -> None:
        self.files: dict[Where, dict[str, bytes]] = {}
        self.commits: dict[Where, dict[str, Committed]] = {}
        self.receipts: dict[Where, dict[str, list[tuple[str, int | None]]]] = {}
        self.running: list[Attempt] = []
        self.left: list[Attempt] = []  # whose receipt nobody has closed
        self.stranded: list[Attempt] = []  # whose files nobody has taken back

    def verifies(self, where: Where, stage: str) -> bool:
        """Return whether a stage is complete."""
        found = self.commits.get(where, {}).get(stage)
        if found is None or found.run_date != where.date:
            return False
        there = self.files.get(where, {})
        if any(there.get(path) != body for path, body in found.artifacts.items()):
            return False
        below = self.commits[where]
        return all(
            content is None or (need in below and below[need].content == content)
            for need, content in found.built_on.items()
        )

    def refuses(self, run: Run, need: str) -> bool:
        """Return whether nothing may stand on a stage."""
        if need in self.commits.get(run.where, {}):
            return not self.verifies(run.where, need)
        return not (run.trust and PRODUCT[need] in self.files.get(run.where, {}))

    def play(
        self, run: Run, held: str = "", moment: str = "running"
    ) -> Generator[Attempt, Cut, Expected]:
        """Play a run; yields when a held stage is at the moment, and takes what happens to it."""
        refused = {
            (stage, need)
            for stage in run.stages
            for need in NEEDS[stage]
            if need not in run.stages and self.refuses(run, need)
        }
        if refused and run.stages:
            return Expected(69, refused=refused)
        end = Expected(0)
        if run.check_only or not run.stages:
            return end
        end.outcomes = dict.fromkeys(STAGES, "skipped") | dict.fromkeys(run.stages, "not run")
        for stage in run.stages:
            begun = self._begin(run, stage, end)
            if begun is None:
                end.outcomes[stage], end.code = "kept", 0
                continue
            cut = Cut()
            if isinstance(begun, Attempt):
                if stage == held:
                    self._publish(begun, moment)
                    self.running.append(begun)
                    cut = yield begun
                    self.running.remove(begun)
                end.outcomes[stage], end.code = self._end(begun, cut)
            else:
                end.outcomes[stage], end.code = begun
            if cut.how == "caller":
                return Expected(-9)
            if cut.how == "term" and cut.moment == "running" and not end.code:
                end.code = 0 if stage == run.stages[-1] else 143
            if end.code:
                break
        if run.ssm and end.code in (137, 194):
            end.code = 1
        return end

    def orphans(self, where: Where) -> None:
        """Close what both of its processes left open: any claim of the date does."""
        for one in [one for one in self.left if one.run.where == where]:
            self.left.remove(one)
            self._close_for(one)

    def _close_for(self, one: Attempt) -> None:
        """Close an attempt's receipt for it: lost, unless the commit is its own."""
        current = self.commits.get(one.run.where, {}).get(one.stage)
        mine = current is not None and current is one.commit
        self._enter(one.run, one.stage, *(("committed", 0) if mine else ("lost", None)))

    def _begin(self, run: Run, stage: str, end: Expected) -> Attempt | tuple[str, int] | None:
        where = run.where
        if run.resume and self.verifies(where, stage):
            return None
        for other in self.running:
            same = other.stage == stage or other.run.execution != run.execution
            if other.run.where == where and same:
                return "busy", 75
        self.orphans(where)
        # Who runs has an open receipt, and it is no orphan: it is entered when it ends.
        refused = next((need for need in NEEDS[stage] if self.refuses(run, need)), None)
        if refused:
            end.refused.add((stage, refused))
            return self._close(run, stage, "failed", 69)
        for one in [o for o in self.stranded if (o.run.where, o.stage) == (where, stage)]:
            self.stranded.remove(one)
            self._take_back(one, one.made)
        below = {need: self.commits.get(where, {}).get(need) for need in NEEDS[stage]}
        return Attempt(
            run,
            stage,
            run.of(stage).files(stage, self.files.get(where, {})),
            {need: found.content if found else None for need, found in below.items()},
            self.commits.get(where, {}).get(stage),
        )

    def _end(self, one: Attempt, cut: Cut) -> tuple[str, int]:
        run, stage = one.run, one.stage
        if cut.how in ("supervisor", "both"):
            if cut.moment in ("publishing", "committing"):
                self.stranded.append(one)
            if cut.how == "both":
                self.left.append(one)
            else:
                self._close_for(one)
            return "lost", 137
        if cut.moment == "running" and (ended := _stopped(cut)):
            return self._close(run, stage, *ended)
        ending = run.of(stage).ending
        if ending != "make":
            return self._close(run, stage, "failed", ending if isinstance(ending, int) else 65)
        if cut.moment == "publishing" and (
            cut.how == "caller" or (cut.how == "term" and not cut.noticed)
        ):
            self._take_back(one, one.made.keys() - {PRODUCT[stage]})
            return self._close(run, stage, "failed", 137 if cut.how == "caller" else 143)
        self._publish(one, "committed")
        return self._close(run, stage, "committed", 0)

    def _publish(self, one: Attempt, until: str) -> None:
        """Change what an attempt changes up to a moment; a second time changes nothing."""
        if until == "running":
            return
        files = self.files.setdefault(one.run.where, {})
        product = PRODUCT[one.stage]
        files |= {p: b for p, b in one.made.items() if p != product or until != "publishing"}
        if until == "publishing":
            return
        for path, body in (one.replaced.artifacts if one.replaced else {}).items():
            if path not in one.made and files.get(path) == body:
                del files[path]
        if until == "committed":
            one.commit = Committed(
                one.stage, one.run.where.date, one.run.execution, dict(one.made), one.built_on
            )
            self.commits.setdefault(one.run.where, {})[one.stage] = one.commit

    def _take_back(self, one: Attempt, paths: Iterable[str]) -> None:
        """Remove what an attempt has put, but for what a commit lists, or somebody else changed."""
        files = self.files.get(one.run.where, {})
        current = self.commits.get(one.run.where, {}).get(one.stage)
        for path in paths:
            body = one.made[path]
            listed = [c for c in (current, one.replaced) if c and c.artifacts.get(path) == body]
            if files.get(path) == body and not listed:
                del files[path]

    def _close(self, run: Run, stage: str, outcome: str, code: int) -> tuple[str, int]:
        self._enter(run, stage, outcome, code)
        return outcome, code

    def _enter(self, run: Run, stage: str, outcome: str, code: int | None) -> None:
        found = self.receipts.setdefault(run.where, {}).setdefault(stage, [])
        found.append((outcome, code))


def _stopped(cut: Cut) -> tuple[str, int] | None:
    """Return how a command that was stopped ends; None where it goes on to its commit."""
    if cut.how == "go" or (cut.how, cut.trap) == ("term", "finishes"):
        return None
    if cut.trap == "finishes":
        return "failed", 137
    if cut.noticed:
        return "reclaimed", 75
    code = 3 if cut.trap == "exits" else 143
    if cut.how == "caller":
        return "front died", code
    return ("failed", 3) if cut.trap == "exits" else ("died of SIGTERM", 143)
