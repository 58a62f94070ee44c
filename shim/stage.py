"""One attempt at one stage: receipt, command, contract, publication, commit, receipt closed."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shim import (
    artifacts,
    clock,
    commit,
    fields,
    liveness,
    logfile,
    lost,
    masking,
    needs,
    outcome,
    private,
    process,
    reclaim,
    record,
    ship,
    takeback,
    tidy,
)
from shim.checkpoint import Checkpoint
from shim.commit import Artifact, Commit
from shim.detach import STOPPING, Lifeline, detached, signal_name
from shim.ended import Ended
from shim.endure import Enduring, at_once
from shim.environment import child_environment
from shim.errors import BusyError, ShimError, StoppedError, printable
from shim.kept import Keeper
from shim.meter import meter
from shim.outcome import Result
from shim.plan import Plan, StagePlan
from shim.sinks import say
from shim.store import Object, open_store

SHIP_LAST = 60.0  # seconds for the rest of a log at the end


def run(plan: Plan, stage: StagePlan, report: Path | None = None, parent: int | None = None) -> int:
    """Run one attempt and return its exit code, by the table in README.md.

    `report` is a file for the outcome; with `parent` the attempt ends when that process does.
    Raises ShimError.
    """
    if parent:
        liveness.die_with(parent)
    attempt = record.attempt_id(clock.utc_now())
    folder = private.temporary(stage.name)
    log = folder / f"{stage.name}.log"
    started = time.monotonic()
    keeper = Keeper(plan, stage, attempt, folder, lambda text: say(f"{stage.name}: {text}"))

    def work(lifeline: Lifeline) -> int:
        result = Result()
        try:
            return _Run(plan, stage, attempt, folder, lifeline, result, keeper).go()
        finally:
            result.seconds = time.monotonic() - started
            result.write(report)
            if lifeline.front_died:  # with the entry, which then cannot tidy up after itself
                tidy.remove_entrys_folder(report)

    def ended(why: str) -> None:
        result = lost.close(plan, stage, attempt, log, keeper, why, started)
        result.write(report)

    return detached(work, ended)


class _Run:
    """The state of one attempt, in the supervisor."""

    def __init__(
        self,
        plan: Plan,
        stage: StagePlan,
        attempt: str,
        folder: Path,
        lifeline: Lifeline,
        result: Result,
        keeper: Keeper,
    ) -> None:
        self.plan, self.stage, self.lifeline, self.result = plan, stage, lifeline, result
        self.keeper, self.committed = keeper, False
        self.before: Mapping[str, Object] = {}
        self.made, self.sent = private.Identity.of(folder), dict[str, str | None]()
        self.folder, self.log = folder, folder / f"{stage.name}.log"
        self.private, self.mask = folder / private.FOLDER, masking.NOTHING
        self.spare = private.Spare(self.log)
        store = open_store(plan.store)
        self.store = Enduring(store, self._go_on, self._tell)
        # Their threads try again by themselves.
        self.attempt = record.Attempt(store, plan, stage.name, attempt)
        self.attempt.values[takeback.PLACE] = str(self.private)
        self.checkpoint = Checkpoint(store, plan, stage, folder, self._tell)

    def go(self) -> int:
        try:
            if self.plan.resume and self._committed():
                self.result.outcome = "kept"
                self._tell("its commit verifies; it is not repeated (--resume)")
                return 0
            wait = self.store.again if reclaim.launch() else at_once
            try:
                wait(lambda: self.attempt.open(self._go_on))  # nobody is told on an instance
            except BusyError:
                self.result.outcome = "busy"
                raise
            return self._closed()
        finally:
            self.keeper.tidy(self.log)

    def _committed(self) -> bool:
        plan = self.plan
        there = commit.verified(self.store, plan.run_prefix, self.stage.name, plan.run_date)
        return there is not None

    def _needs(self) -> dict[str, Commit | None]:
        names = needs.stages(self.plan, self.stage)
        commits = {name: needs.of(self.store, self.plan, self.stage, name) for name in names}
        for name, found in commits.items():
            if found is None:
                self._tell(f"{name} has no commit; its artifacts are trusted (--trust-existing)")
        return commits

    def _closed(self) -> int:
        """Run the attempt and close its receipt, however it ends."""
        shipper = ship.started(self.attempt.store, self.plan, self.stage, self.log)
        details: dict[str, Any] = {}
        how, code = "failed", ShimError.code
        rest, self.make_room = b"", shipper.make_room
        try:
            commits = self._needs()
            ended = self._command(commits)
            self.spare.restore()
            self.checkpoint.close(save=ended.code != 0 and not self.attempt.superseded.is_set())
            rest = ended.rest
            details |= ended.for_receipt()
            if self.attempt.superseded.is_set():
                self.attempt.beat()  # raises and says why
            if ended.code == 0:
                self._commit(commits)
            how, code = outcome.of(ended, bool(self.lifeline.stop))
            if code != 0:
                self._tell(f"{how}, exit code {code}; its log is {shipper.uri}", always=True)
        except BaseException as error:
            code, details["error"] = outcome.failure(error, self.mask)
            rest = logfile.add_line(self.log, printable(details["error"]), rest)
            raise
        finally:
            self.attempt.store.hurried = bool(self.lifeline.stop) and not reclaim.noticed()
            shipped = shipper.finish(SHIP_LAST, rest)
            self.result.outcome = how
            self.result.log = shipper.uri if shipped else str(self.log)
            if self.committed:
                takeback.forget(self.attempt)
            else:
                details |= self._leave()
            self._close(how, code, log=self.result.log, **details)
            if shipped:
                tidy.remove_file(self.log)
        return code

    def _leave(self) -> dict[str, Any]:
        """Take back what was published, keep what was made; return what the receipt says of it."""
        superseded = self.attempt.superseded.is_set
        where = self.keeper.keep(
            self.attempt.store, lambda: bool(self.lifeline.stop), superseded=superseded()
        )
        said = {"kept": where} if where else {}
        # By the one that took over, who may have published the same bytes meanwhile.
        if superseded():
            return said
        return said | takeback.fail(self.store, self.attempt, self.sent, self.before)

    def _close(self, how: str, code: int, **details: Any) -> None:
        """Close the receipt; a failure here must not replace the stage's own status."""
        if self.attempt.superseded.is_set():
            return  # it was closed as lost by the attempt that took over
        try:
            self.store.again(lambda: self.attempt.close(how, code, **details))
        except ShimError as error:
            self._tell(f"its receipt stays open: {error}", always=True)

    def _command(self, commits: Mapping[str, Commit | None]) -> Ended:
        """Bring in what is required and run the command under capture."""
        self.private.mkdir(mode=0o700)
        self.before = takeback.begin(self.store, self.plan, self.stage, self.attempt, self._tell)
        self.replaced = commit.read(self.store, self.plan.run_prefix, self.stage.name)
        self.started = self.store.now()
        self.brought: dict[str, str] = {}
        if self.stage.io == "private":
            self.brought = artifacts.bring_in(
                self.store, self.plan, self.stage, commits, self.private
            )
        self.checkpoint.open()
        kept = str(self.checkpoint.folder)
        env = child_environment(self.plan, self.stage, str(self.private), kept, self._tell)
        values = {"python": sys.executable, "artifacts_dir": str(self.private)}
        command = [fields.fill(part, values) for part in self.stage.command]
        self.keeper.begin()
        self.mask = masking.stage_masker(self.plan, self.stage, command, env)
        self.spare.hold()
        self._tell(f"attempt {self.attempt.id}, timeout {self.stage.timeout} s")
        return process.run(
            command,
            log=self.log,
            lifeline=self.lifeline,
            env=env,
            mask=self.mask,
            cwd=Path(self.plan.root),
            console=None if self.plan.quiet else 1,
            timeout=self.stage.timeout,
            cancel=self.attempt.superseded,
            make_room=self.make_room,
            silent=lambda seconds: self._tell(f"still running after {seconds:.0f} s, no output"),
        )

    def _commit(self, commits: Mapping[str, Commit | None]) -> None:
        """Verify the contract, publish and commit."""
        self._go_on()
        if self.stage.io == "direct":
            published = artifacts.verify_direct(
                self.store, self.plan, self.stage, self.before, self.started
            )
        else:
            private.check(self.stage.name, self.private, self.made, self.folder)
            owners = artifacts.owners_of(self.store, self.plan, self.stage)
            found = artifacts.collect(self.stage, self.private, self.brought, owners)
            takeback.announce(self.store, self.attempt, found, self.replaced)
            self._go_on()
            show = meter(self._go_on, self._tell, self.plan.quiet)
            published = artifacts.publish(
                self.store, self.plan, found, self.before, self._still_mine, show, self.sent
            )
        for path in artifacts.retire(
            self.store, self.plan, self.replaced, published, self._still_mine
        ):
            self._tell(f"removed {path}, which only the commit before this one had")
        self._still_mine()
        self._write_commit(commits, published)
        self.committed = True
        self._tell(f"committed {len(published)} artifacts")
        self.checkpoint.forget()

    def _write_commit(
        self, commits: Mapping[str, Commit | None], published: Mapping[str, Artifact]
    ) -> None:
        commit.write(
            self.store,
            self.plan.run_prefix,
            Commit(
                stage=self.stage.name,
                run_date=self.plan.run_date,
                execution_id=self.plan.execution_id,
                attempt=self.attempt.id,
                code_version=self.plan.code_version,
                committed=clock.iso(self.store.now()),
                artifacts=published,
                built_on={name: c.digest if c else None for name, c in commits.items()},
            ),
            self.replaced.etag if self.replaced else None,
        )

    def _still_mine(self) -> None:
        """Raise if this attempt must not publish: superseded, or told to end."""
        self.store.again(self.attempt.beat)
        self._go_on()

    def _go_on(self) -> None:
        """Raise if the front died, a signal asks to stop or another attempt took over."""
        if self.attempt.superseded.is_set():
            self.attempt.beat()
        if self.lifeline.front_died:
            raise StoppedError(self.stage.name, "its caller was killed", 128 + signal.SIGKILL)
        if reclaim.noticed():
            return  # the command succeeded, and there may be time to commit what it made
        for number in STOPPING.intersection(self.lifeline.hear()):
            raise StoppedError(self.stage.name, signal_name(number), 128 + number)
        if self.lifeline.addressed:
            raise StoppedError(self.stage.name, "a signal to its supervisor", 128 + signal.SIGTERM)

    def _tell(self, text: str, always: bool = False) -> None:
        if always or not self.plan.quiet:
            say(f"{self.stage.name}: {self.mask.text(text)}")
