"""An instance of the lab ends itself: by its shutdown, and by its timers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.children import alive, until
from tests.instances import Launch, launching
from tests.lab import power


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Launch]:
    """Launch instances for one test."""
    with launching(tmp_path) as one:
        yield one


@pytest.mark.parametrize(
    "command",
    [
        *("shutdown now", "shutdown -h now", "shutdown -P +0", "shutdown --no-wall -h now bye"),
        *("poweroff", "systemctl poweroff"),
    ],
)
def test_a_shutdown_ends_everything_and_is_told_once(launch: Launch, command: str) -> None:
    """When nothing is left, with the metadata service gone; the command itself succeeds."""
    ran = launch(
        f"#!/bin/bash\nsetsid sleep 1000 & trap : TERM; {command}; echo code $?; exec sleep 1000"
    )
    ran.down()
    assert ran.shutdowns == [True]
    assert "code 0\n" in ran.console
    assert ran.machine.calls() == [command.split()]
    assert not alive(ran.machine.init_pid or 0)
    assert not ran.reachable()


def test_a_shutdown_needs_no_room_on_a_disk(launch: Launch) -> None:
    """What writes here is the lab's; systemd does it without a file."""
    ran = launch("#!/bin/bash\n(ulimit -S -f 0; shutdown -h now); exec sleep 1000")
    ran.down()
    assert ran.shutdowns == [True]


def test_a_shutdown_asks_first_and_does_not_wait_for_those_that_stay(launch: Launch) -> None:
    """TERM to everybody, and soon SIGKILL."""
    ran = launch(
        "#!/bin/bash\ntrap 'echo asked' TERM\n"
        "(trap 'echo asked as well; exit' TERM; while :; do sleep 0.01; done) & echo ready\n"
        "shutdown now; while :; do sleep 0.01; done"
    )
    ran.down()
    assert ran.shutdowns == [True]
    assert {"asked", "asked as well", "ready"} <= set(ran.console.splitlines())


def test_a_shutdown_in_minutes_is_cancelled_or_comes(launch: Launch, tmp_path: Path) -> None:
    """Without a time it is in one minute; a later one replaces it; the lab's minutes are short."""
    ran = launch(
        "#!/bin/sh\nshutdown -h +99999; echo set\n"
        f"while ! [ -e '{tmp_path}/go' ]; do sleep 0.01; done\n"
        "shutdown -c; echo cancelled\n"
        f"while [ -e '{tmp_path}/go' ]; do sleep 0.01; done\n"
        "shutdown -h +99999; shutdown; sleep 1000"
    )
    until(lambda: ran.machine.timers() == ["shutdown"])
    (tmp_path / "go").touch()
    ran.said("cancelled\n")
    until(lambda: ran.machine.timers() == [])
    assert ran.shutdowns == []
    (tmp_path / "go").unlink()
    ran.down()
    assert [call[-1] for call in ran.machine.calls()] == ["+99999", "-c", "+99999", "shutdown"]


def test_a_timer_runs_its_command_from_the_first_environment(launch: Launch) -> None:
    """Not from the caller's; and its end is not the end of what it started."""
    ran = launch(
        "#!/bin/sh\nX=1 setsid systemd-run --quiet --on-active=0.2s --unit=deadline "
        "sh -c 'echo fired in $PWD $X.; sleep 1000; :'"
    )
    ran.said("fired in / .\n")
    assert ran.machine.timers() == []
    until(lambda: len(ran.machine.pids()) == 2)
    assert ran.machine.calls()[0][:4] == [
        *("systemd-run", "--quiet", "--on-active=0.2s", "--unit=deadline")
    ]


def test_a_deadline_shuts_the_instance_down(launch: Launch) -> None:
    """I06: by the instance itself; never by this machine's own shutdown."""
    ran = launch("#!/bin/sh\nsystemd-run --on-active 0.1 /sbin/shutdown -h now; sleep 1000")
    ran.down()
    assert ran.machine.calls()[1:] == [["shutdown", "-h", "now"]]
    assert ran.console.startswith("Running timer as unit: run-r")


def test_what_was_stopped_does_not_happen(launch: Launch) -> None:
    """While a timer that is due later fires."""
    ran = launch(
        "#!/bin/sh\nsystemd-run --on-active=1.5 --unit=one echo one; shutdown -h +30\n"
        "systemctl stop one.timer; shutdown -c; systemd-run --on-active=1.5 echo two"
    )
    ran.said("two\n")
    assert "one\n" not in ran.console
    assert ran.shutdowns == []


def test_a_timer_is_stopped_by_its_unit_and_is_not_there_twice(launch: Launch) -> None:
    """As systemd refuses a unit that is loaded, and the end of one that is not."""
    ran = launch(
        "#!/bin/sh\narm='systemd-run --on-active=1h --unit=deadline.timer shutdown now'\n"
        "$arm\n$arm || echo refused $?\nsystemctl stop deadline.timer && $arm && echo again\n"
        "systemctl stop no-such || echo unknown $?\n"
    )
    ran.said("refused 1\n")
    ran.said("again\n")
    ran.said("unknown 1\n")
    assert "already loaded" in ran.console
    assert ran.machine.timers() == ["deadline"]


@pytest.mark.parametrize(
    "command",
    [
        *("shutdown -r now", "shutdown 23:00", "shutdown tomorrow", "systemctl restart x"),
        *("busctl list",),
        *("systemd-run true", "systemd-run --on-active=1h", "systemd-run --scope --on-active=1 x"),
        *("systemd-run --on-active=soon true", "systemd-run --on-active=1 no-such-program"),
        f"systemd-run --on-active=1 true {'x' * 5000}",
    ],
)
def test_what_the_lab_does_not_know_is_refused(tmp_path: Path, command: str) -> None:
    """With 1 and a reason, instead of doing something else."""
    (tmp_path / power.TIMERS).mkdir()
    name, *words = command.split()
    with pytest.raises(power.RefusedError):
        power.do(tmp_path, name, words)
    assert list((tmp_path / power.TIMERS).iterdir()) == []
    assert power.main(tmp_path, name, words) == 1


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("5min", 300), ("1h 30m", 5400), ("1.5s", 1.5), ("2d", 172800)],
)
def test_a_time_span_is_systemds(text: str, seconds: float) -> None:
    """See systemd.time(7)."""
    assert power.span(text) == seconds
