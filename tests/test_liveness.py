"""Who runs an attempt, and the proof that they are gone."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shim import liveness
from tests.children import until

NOBODY = 65534


def test_a_process_of_this_machine_is_told_from_a_later_one() -> None:
    """By its start; a zombie counts as gone, a record of another machine proves nothing."""
    me = liveness.myself()
    with subprocess.Popen(["true"]) as child:
        until(lambda: liveness._started(child.pid) is None)
        assert liveness.proven_dead({**me, "pid": child.pid})  # a zombie

    assert not liveness.proven_dead(me)
    assert liveness.proven_dead({**me, "started": "1"})
    assert liveness.proven_dead({**me, "pid": child.pid})
    for unknown in ({**me, "machine": "another"}, {**me, "started": None}, {}, {**me, "pid": None}):
        assert not liveness.proven_dead(unknown)


@pytest.mark.parametrize("pid", [0, -1, True, 1 << 31, 10**30, "1", 1.0])
def test_what_is_no_process_id_proves_nothing(pid: object) -> None:
    """I52: kill(2) takes 0 and less for groups, and a number that is too large is no pid_t."""
    assert not liveness.proven_dead({**liveness.myself(), "pid": pid})


@pytest.fixture
def readable() -> Iterator[Path]:
    """A folder that every user can read, which those of tests are not."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def hidden(readable: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A /proc that shows this process's own entry alone, as hidepid=2 does to another user."""
    for name in ("self", "sys"):
        (readable / name).symlink_to(f"/proc/{name}")
    monkeypatch.setattr(liveness, "PROC", readable)


@pytest.mark.usefixtures("hidden")
def test_a_process_that_proc_does_not_show_is_not_dead() -> None:
    """I52: it is while the kernel knows it, and dead when the kernel knows no such process."""
    me = {**liveness.myself(), "started": "1"}
    with subprocess.Popen(["sleep", "60"]) as child:
        assert not liveness.proven_dead({**me, "pid": child.pid})
        child.kill()
    assert liveness.proven_dead({**me, "pid": child.pid})


@pytest.mark.usefixtures("hidden")
def test_a_process_of_another_user_is_not_dead() -> None:
    """I52: the kernel forbids the signal, so there is one."""
    machine = liveness._machine()
    assert as_another_user(lambda: liveness._machine() == machine) is True
    theirs = {**liveness.myself(), "started": "1", "pid": os.getpid() if os.getuid() == 0 else 1}
    assert as_another_user(lambda: liveness.proven_dead(theirs)) is False


def test_hidepid_makes_nobody_dead(readable: Path) -> None:
    """I52: a real /proc that hides the processes of others, as another user sees it."""
    me = liveness.myself()
    code = f"""
import os, pathlib, sys
sys.path.insert(0, {str(Path(__file__).parent.parent)!r})
from shim import liveness
liveness.PROC = pathlib.Path({str(readable)!r})
os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})
assert liveness._machine() == {me["machine"]!r}
assert not os.path.exists("{readable}/{os.getpid()}"), "it is not hidden"
print(liveness.proven_dead({me!r}))
"""
    mounted = 'mount -t proc -o hidepid=2 proc "$0" && exec "$@"'
    if os.getuid() != 0:
        pytest.skip("only root may mount")
    tried = subprocess.run(
        ["unshare", "-m", "sh", "-c", mounted, readable, "true"], capture_output=True, check=False
    )
    if tried.returncode:
        pytest.skip(f"no mount is allowed here: {tried.stderr.decode(errors='replace').strip()}")
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", mounted, readable, sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("False\n", "")


def as_another_user(ask: Callable[[], bool]) -> bool | None:
    """Return the answer of a child that runs as nobody, where this process may make one."""
    child = os.fork()
    if child == 0:
        code = 2
        try:
            if os.getuid() == 0:
                os.setgid(NOBODY)
                os.setuid(NOBODY)
            code = int(ask())
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return {0: False, 1: True}.get(code)
