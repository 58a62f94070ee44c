"""Seeded bugs: each a change of the tool for a test alone, and the case that must show it.

A text runs in its module after it, one of the entry after run_stages.sh; one of bootstrap.sh is a
replacement, `old => new`. A bug is caught when the checker names the invariant that it breaks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tests.crash.cases import Case, cases


@dataclass(frozen=True)
class Bug:
    """A bug: what is wrong, in which module, at which fault and side it shows, what it breaks."""

    name: str
    module: str
    text: str
    fault: str
    side: str
    breaks: int

    @property
    def change(self) -> Mapping[str, str]:
        """What world.py takes."""
        return {self.module: self.text}

    def case(self) -> Case:
        """Return the case that must show it. Raises LookupError if the sweep has none."""
        for case in cases():
            if (case.fault, str(case.side)) == (self.fault, self.side):
                return case
        raise LookupError(f"no case {self.fault} {self.side}")


CLEAN = ("nothing", "at launcher/spot-front-start")
DRY = ("dry-run nothing", "at launcher/spot-front-start")
TICK = "at stage/a-tick-{}".format
FAILS = ("exit-37", "at stage/a-end")

BUGS = (
    Bug("a stage asks its own clock for the date", "shim.environment", """
_env = child_environment
def child_environment(plan, *given):
    from shim import clock
    return {**_env(plan, *given), "RUN_DATE": clock.iso(clock.utc_now())[:10]}
""", *CLEAN, 1),
    Bug("the commit is written first", "shim.stage", """
def _commit(self, commits):
    found = artifacts.collect(self.stage, self.private, self.brought, {})
    self._write_commit(commits, {f.path: Artifact(f.size, f.sha256, "") for f in found})
    for one in found:
        self.store.put(self.plan.run_prefix + one.path, one.file)
_Run._commit = _commit
""", *CLEAN, 2),
    Bug("the receipt is left to others", "shim.stage", "_Run._close = lambda *_, **__: None",
        *FAILS, 6),
    Bug("nobody closes a receipt", "shim.record", """
Attempt.close = lambda self, *_, **__: self.release()
close_left = lambda *_, **__: True
""", *CLEAN, 3),
    Bug("terminate is forgotten when the launcher is stopped", "shim.instance", """
_ended = OneLaunch._terminate
OneLaunch._terminate = lambda self, end: None if end.outcome == "ended" else _ended(self, end)
""", "kill-group", TICK(3), 4),
    Bug("the supervisor does not notice that its front died", "shim.detach",
        "Lifeline.stop = property(lambda self: None)", "kill-group", TICK(2), 4),
    Bug("what an earlier launch left is found by its record alone", "shim.reap", """
def clear(ec2, found, tell, wait):
    for there in found:
        end(ec2, [i for i in [there.values.get("instance")] if i], tell, wait, "left over")
        _close(there.record, "lost", "its launcher is gone")
""", "crash", "after launcher CreateFleet", 4),
    Bug("what an earlier launch left is not looked for", "shim.reap",
        "def clear(*given):\n    pass", "crash", TICK(4), 4),
    Bug("the exit code goes through a pipe", "shim.guest", """
_words = _Guest._command
def _command(self):
    words = _words(self)
    at = words.index("--") + 1
    return [*words[:at], "sh", "-c", '"$@" | cat', "sh", *words[at:]]
_Guest._command = _command
""", *FAILS, 6),
    Bug("the code is resolved again on a retry", "shim.instance", """
_old = OneLaunch._values
def _values(self, name, number):
    if number > 1:
        code = bundle.make(ROOT, Path(self._plan.root), "unknown", True)
        object.__setattr__(self._context, "code", code)
        bundle.store_bundle(self._store, code)
    return _old(self, name, number)
OneLaunch._values = _values
""", "reclaim", TICK(3), 9),
    Bug("the date is resolved again on a retry", "shim.spot", """
_rest = _Launcher._left
def _left(self):
    return dataclasses.replace(_rest(self), run_date=clock.iso(clock.utc_now())[:10])
_Launcher._left = _left
""", "reclaim", TICK(4), 1),
    Bug("the log is shipped only at exit", "shim.ship", """
_start = Shipper.start
def start(self):
    self._work = lambda: (self._wake.wait(), self._ship())
    self._thread = threading.Thread(target=self._work, daemon=True)
    _start(self)
Shipper.start = start
""", "reclaim", TICK(6), 5),
    Bug("a conditional put goes without its condition", "shim.record",
        "Receipt._etag = property(lambda self: None, lambda self, value: None)", *CLEAN, 5),
    Bug("EC2 is asked before the launch is recorded", "shim.launch",
        "Launch.open = lambda self: None", "crash", "after launcher CreateFleet", 4),
    Bug("the deadline is not armed first", "bootstrap",
        '  arm "$FIRST" spot-backtest-first\n => \n', *CLEAN, 4),
    Bug("an instance does not end itself", "bootstrap",
        "  shutdown -h now || systemctl poweroff --force || poweroff -f =>   :",
        "crash", "after instance PutObject launch-closed", 4),
    Bug("a reclaim is taken for a loss", "shim.follow", "RECLAIMED = set()",
        "reclaim", TICK(5), 6),
    Bug("a real failure is tried again", "shim.follow", 'AGAIN = (*AGAIN, "failed")', *FAILS, 6),
    Bug("a failed stage becomes a warning", "shim.outcome", """
_of = of
of = lambda ended, stopped: (_of(ended, stopped)[0], 0)
""", *FAILS, 6),
    Bug("a dry run is not dry", "shim.plan",
        "Plan.from_json = classmethod(lambda cls, text, _f=Plan.from_json.__func__: "
        "dataclasses.replace(_f(cls, text), dry_run=False))", *DRY, 8),
    Bug("a preflight probes under the run prefix", "shim.preflight",
        'PROBES = "backtest/2026-05-17/_tmp/"', *DRY, 8),
    Bug("an instance makes an execution of its own", "shim.guest", """
_there = _here
def _here(plan, values):
    return dataclasses.replace(_there(plan, values), execution_id="adhoc-20260517T000000Z-beef")
""", *CLEAN, 9),
    Bug("the store's address reaches a shell", "shim.environment", """
_env = child_environment
def child_environment(plan, *given):
    import subprocess
    subprocess.run(["bash", "-c", f'echo "{plan.store}" >&2'], cwd=plan.root)
    return _env(plan, *given)
""", *CLEAN, 7),
    Bug("a receipt says 0 for every end", "shim.stage", """
_end = _Run._close
_Run._close = lambda self, how, code, **more: _end(self, how, 0, **more)
""", *FAILS, 6),
    Bug("a log lies under the day of its clock", "shim.ship", """
_key = log_key
log_key = lambda p, slug, day, host, at: _key(p, slug, at.date().isoformat(), host, at)
""", *CLEAN, 1),
    Bug("other bytes are listed than were published", "shim.artifacts", """
import dataclasses
_all = publish
def publish(*given):
    other = hashlib.sha256(b"hashed first, sent later").hexdigest()
    return {p: dataclasses.replace(a, sha256=other) for p, a in _all(*given).items()}
""", *CLEAN, 2),
    Bug("a record calls the run date by another name", "shim.record", """
_text = _json
_json = lambda v: _text({"date" if k == "run_date" else k: x for k, x in v.items()})
""", *CLEAN, 10),
    Bug("a stage does not get ARTIFACTS_URI", "shim.environment", """
_env = child_environment
def child_environment(*given):
    return {"ARTIFACTS_LOCATION" if k == "ARTIFACTS_URI" else k: v for k, v in _env(*given).items()}
""", *CLEAN, 10),
    Bug("a cleanup deletes the log", "shim.ship", """
_finish = Shipper.finish
def finish(self, *given):
    whole = _finish(self, *given)
    self._store.delete(self._key)
    return whole
Shipper.finish = finish
""", *CLEAN, 5),
    Bug("a commit does not say what it was built on", "shim.commit",
        'Commit.digest = property(lambda self: "none")', *CLEAN, 2),
    Bug("a launch record is never closed", "shim.launch",
        "Record.close = lambda *_, **__: False", "kill-group", TICK(4), 4),
    Bug("an instance does not say how its stages ended", "shim.guest",
        "_Guest._close = lambda *_: None", *FAILS, 6),
    Bug("a launcher has codes of its own", "shim.spot", """
_go = _Launcher._attempts
_Launcher._attempts = lambda self, code: min(1, _go(self, code))
""", *FAILS, 6),
    Bug("a lost answer is asked for again under another token", "shim.ec2", """
import secrets as _secrets
LIMITS["attempts"] = 1
_once = Ec2.create_fleet
def create_fleet(self, request):
    try:
        return _once(self, request)
    except PreflightError:
        return _once(self, {**request, "ClientToken": _secrets.token_hex(16)})
Ec2.create_fleet = create_fleet
""", "lost-answer", "after launcher CreateFleet", 4),
    Bug("a stage that has committed is run again", "shim.spot",
        "_Launcher._left = lambda self: self.plan",
        "reclaim", "after instance PutObject receipt-a-closed", 3),
    Bug("the metadata service is asked once", "bootstrap",
        "export AWS_METADATA_SERVICE_NUM_ATTEMPTS=5 AWS_METADATA_SERVICE_TIMEOUT=5 => :",
        "no-credentials", "at instance/stage-supervisor-start", 6),
    Bug("an attempt's log is kept on the instance", "shim.ship", """
class _Nothing:
    make_room, freed = None, 0
    def __init__(self, uri):
        self.uri = uri
    def finish(self, *_):
        return True
started = lambda *given: _Nothing("-")
""", *CLEAN, 5),
    Bug("the entry's printf failure becomes the exit code", "entry", """
eval "_$(declare -f run_stages_leave)"
run_stages_leave() {
  local status=0
  _run_stages_leave "$@" || status=$?
  printf 'spot_backtest: exit code %d\\n' "$status" || return
  return "$status"
}
""", "full-output exit-37", "at stage/a-end", 6),
    Bug("a refused connection counts as a final answer", "shim.aws_errors", """
_failed = failed
def failed(uri, error, *given):
    made = _failed(uri, error, *given)
    made.passing = made.passing and not isinstance(error, exceptions.EndpointConnectionError)
    return made
""", "store-refused", "at stage/a-end", 11),
)  # fmt: skip
