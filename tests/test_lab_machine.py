"""A launched instance of the lab is a tree of real processes, and nothing of it is left behind."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from subprocess import PIPE, Popen
from threading import Thread
from threading import enumerate as enumerate_threads

import pytest

from tests.children import ROOT, alive, read, until
from tests.instances import Lab, Launch, launching
from tests.lab import init, machine

# Forks twice, into a session of its own and without a variable, and leaves its pid.
DAEMON = """
import os, sys, time
if os.fork():
    os._exit(0)
os.setsid()
if os.fork():
    os._exit(0)
os.execve("/bin/sh", ["sh", "-c", f"echo $$ >{sys.argv[1]}; exec sleep 1000"], {})
"""


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Launch]:
    """Launch instances for one test."""
    with launching(tmp_path) as one:
        yield one


def test_user_data_starts_from_hardly_an_environment(launch: Launch) -> None:
    """By its first line, in /, without HOME and standard input, on a Python that is new enough."""
    ran = launch(
        "#!/usr/bin/env python3\nimport json, os, sys\n"
        "environ = open('/proc/self/environ').read()\n"
        "print(json.dumps([environ, os.getcwd(), sys.stdin.read(), sys.version_info]))"
    )
    ran.said("\n")
    environ, cwd, stdin, version = json.loads(ran.console)
    env = dict(each.split("=", 1) for each in environ.split("\0")[:-1])
    folder = ran.machine.folder
    assert (
        env
        == ran.machine.env
        == {
            "PATH": f"{folder}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "AWS_EC2_METADATA_SERVICE_ENDPOINT": ran.machine.imds.url,
            "SPOT_HOME": f"{folder}/home",
            "SPOT_LOG": f"{folder}/log",
        }
    )
    assert (cwd, stdin) == ("/", "")
    assert version >= [3, 11]


def test_a_lab_gives_its_instances_what_they_need_here(launch: Launch) -> None:
    """Variables, and folders on PATH behind the instance's own."""
    ran = launch('#!/bin/sh\necho "$PATH $MORE."', Lab({"PATH": "/opt/x", "MORE": "more"}))
    ran.said(f"{ran.machine.folder / 'bin'}:/opt/x:/usr/local/sbin:")
    ran.said("/bin more.")


def test_a_system_without_a_python_gets_that_of_the_tests(
    launch: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By both of its names, and without the environment of the tests."""
    monkeypatch.setattr(machine, "_system_python", lambda: False)
    name = f"python3.{sys.version_info[1]}"
    show = "-c 'import sys; print(sys.prefix, sys.version_info[:2])'"
    ran = launch(f"#!/bin/sh\npython3 {show}\n{name} {show}\n")
    until(lambda: ran.console == f"{sys.base_prefix} {sys.version_info[:2]}\n" * 2)


@pytest.mark.parametrize("text", ["echo hello", "#cloud-config\n", "#!/no/such/interpreter\n"])
def test_what_cannot_be_run_leaves_the_instance_idle(launch: Launch, text: str) -> None:
    """As cloud-init does; so it is up for ever, unless somebody ends it (I06)."""
    ran = launch(text)
    until(lambda: ran.console)
    assert "hello" not in ran.console
    assert ran.machine.pids() == []
    assert alive(ran.machine.init_pid or 0)
    assert ran.shutdowns == []


def test_the_end_of_the_user_data_is_not_the_end_of_the_instance(launch: Launch) -> None:
    """What it left in the background runs on."""
    ran = launch("#!/bin/sh\nsleep 1000 &\necho $!; echo done")
    ran.said("done")
    until(lambda: ran.machine.pids() == [int(ran.console.split()[0])])
    assert ran.shutdowns == []


def test_a_cut_ends_those_that_left_the_tree(launch: Launch, tmp_path: Path) -> None:
    """Forked twice, in a session of its own, with no variable that would mark it."""
    daemon = tmp_path / "daemon.py"
    daemon.write_text(DAEMON)
    ran = launch(f"#!/bin/sh\npython3 {daemon} {tmp_path}/pid\nsleep 1000")
    pid = int(until(lambda: read(tmp_path / "pid").decode().strip()))
    assert pid in ran.machine.pids()
    ran.machine.kill()
    assert not alive(pid)
    assert ran.machine.pids() == []
    assert not alive(ran.machine.init_pid or 0)


def test_a_cut_ends_those_that_fork_all_the_time(launch: Launch) -> None:
    """However many there are while it looks."""
    ran = launch(
        "#!/bin/bash\nf() { : & : & }\nfor i in 1 2 3; do while :; do f; done & done; wait"
    )
    until(lambda: len(ran.machine.pids()) > 3)
    ran.machine.kill()
    assert init.find(None, f"SPOT_HOME={ran.machine.folder / 'home'}") == {}


def test_a_cut_is_seen_by_nobody_inside(launch: Launch) -> None:
    """All are stopped before the first is killed, so none lives to report another's end."""
    ran = launch("#!/bin/sh\nsleep 1000 & (while :; do :; done) & (while :; do sleep 1; done)")
    until(lambda: len(ran.machine.pids()) == 5)
    seen: list[str] = []

    def found() -> init.Found:
        now = init.find(ran.machine.init_pid, None)
        seen.append("".join(now.values()))
        return now

    init.cut(found)
    dead = next(number for number, states in enumerate(seen) if len(states) < 5)
    assert set(seen[0]) == {"R", "S"}
    assert seen[dead - 1] == "TTTTT"


@pytest.mark.parametrize("mark", ["", "=", "SPOT_HOME="])
def test_a_mark_that_every_process_has_is_refused(mark: str) -> None:
    """What follows a search is SIGKILL."""
    with pytest.raises(ValueError, match="marks no process"):
        init.find(None, mark)


def test_a_cut_is_no_shutdown_and_may_come_twice(launch: Launch) -> None:
    """Also from several threads."""
    ran = launch("#!/bin/sh\nsleep 1000")
    threads = [Thread(target=ran.machine.kill) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    until(lambda: str(ran.machine.folder) not in {thread.name for thread in enumerate_threads()})
    assert ran.shutdowns == []
    assert not ran.reachable()


def test_a_machine_that_was_killed_is_not_started_any_more(launch: Launch) -> None:
    """It may be ended while somebody is about to start it."""
    ran = launch("#!/bin/sh\nsleep 1000", start=False)
    ran.machine.kill()
    ran.machine.start()
    assert ran.machine.init_pid is None
    assert ran.machine.pids() == []


def test_the_end_of_the_first_process_ends_the_rest(launch: Launch) -> None:
    """And is told, as a shutdown is: an instance without an init is none."""
    ran = launch("#!/bin/sh\nsetsid sleep 1000 & sleep 1000 & echo ready; wait")
    ran.said("ready")
    pids = ran.machine.pids()
    assert len(pids) == 3
    os.kill(ran.machine.init_pid or 0, signal.SIGKILL)
    ran.down()
    assert [pid for pid in pids if alive(pid)] == []
    assert ran.shutdowns == [True]


def test_signals_do_not_end_the_first_process(launch: Launch) -> None:
    """As they do not on a real instance (kill(2)); what it starts may be ended by them."""
    ran = launch("#!/bin/sh\necho ready; exec sleep 1000")
    ran.said("ready")
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        os.kill(ran.machine.init_pid or 0, number)
    os.kill(ran.machine.pids()[0], signal.SIGTERM)
    until(lambda: ran.machine.pids() == [])
    assert alive(ran.machine.init_pid or 0)


def test_no_instance_outlives_its_lab(tmp_path: Path) -> None:
    """However the lab's process ends: here by SIGKILL, while a daemon runs inside."""
    program = (
        "import pathlib, sys, time\n"
        "from tests.instances import Running, Lab\n"
        "ran = Running(sys.argv[1], pathlib.Path(sys.argv[2]), Lab())\n"
        "ran.machine.start()\n"
        "ran.said('ready')\n"
        "print(ran.machine.init_pid, *ran.machine.pids(), flush=True)\n"
        "time.sleep(1000)\n"
    )
    script = "#!/bin/sh\n(setsid env -i sleep 1000 &)\nsleep 1000 & echo ready; wait"
    with Popen(
        [sys.executable, "-c", program, script, str(tmp_path / "i")],
        cwd=ROOT,
        stdout=PIPE,
        text=True,
    ) as lab:
        assert lab.stdout is not None
        pids = [int(word) for word in lab.stdout.readline().split()]
        lab.kill()
    assert len(pids) == 4
    until(lambda: not any(alive(pid) for pid in pids))


def test_instances_that_start_at_once_find_no_program_busy(launch: Launch) -> None:
    """No fork of one holds the script of another open (ETXTBSY in execve(2))."""
    several = [launch("#!/bin/sh\necho started") for _ in range(8)]
    for ran in several:
        ran.said("started")
