"""The real user data in a real, booted systemd: `make test-instance`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from shim.spot_preflight import BOOTSTRAP
from tests import children, launches
from tests.children import until
from tests.lab.ec2_instances import SHUT_DOWN, LabInstance
from tests.lab.nspawn import Container, InstanceLab, image
from tests.launches import Spot

pytestmark = pytest.mark.instance

# What systemd gives every service, and the terminal's type to one that prints on the console:
# «Environment variables in spawned processes» in systemd.exec(5).
FROM_SYSTEMD = {"PATH", "LANG", "INVOCATION_ID", "JOURNAL_STREAM", "SYSTEMD_EXEC_PID", "TERM"}
FIRST = "readonly FIRST=1800"
ARMS = '  arm "$FIRST" spot-backtest-first\n'
READS = "  step='reading the instance tags'\n"


@pytest.fixture(scope="session")
def tree() -> Path:
    """What instances boot."""
    return image()


@pytest.fixture
def aws(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[InstanceLab]:
    """An AWS whose instances boot, and the patience that this takes."""
    monkeypatch.setattr(children, "PATIENCE", 150.0)
    lab = InstanceLab(tmp_path / "aws", tree)
    for name, value in lab.env.items():
        monkeypatch.setenv(name, value)
    try:
        yield lab
    finally:
        launches.end_all()
        lab.close()


@pytest.fixture
def spot(aws: InstanceLab, tool: Path, tmp_path: Path) -> Spot:
    """A table without a stage."""
    return Spot(aws, tool, tmp_path / "spot")


def left_alone(spot: Spot) -> LabInstance:
    """Launch an instance that nobody but itself will end."""
    done = spot.run("--detach")
    assert done.code == 0, done.err
    (instance,) = spot.aws.instances.values()
    return instance


def container(instance: LabInstance) -> Container:
    """Return what an instance runs in."""
    return cast(Container, instance.machine)


def powered_off(instance: LabInstance) -> str:
    """Wait until an instance has ended itself; return its journal."""
    until(lambda: instance.state == "terminated")
    journal = (instance.machine.folder / "console").read_text(errors="replace")
    assert instance.reason == SHUT_DOWN, journal
    return journal


def environment(instance: LabInstance) -> dict[str, str]:
    """Return the environment that the user data was started with, once it runs."""

    def found() -> list[bytes]:
        for pid in instance.machine.pids():
            if b"/part-001\0" in children.read(Path(f"/proc/{pid}/cmdline")):
                return children.read(Path(f"/proc/{pid}/environ")).split(b"\0")[:-1]
        return []

    return dict(entry.decode().split("=", 1) for entry in until(found))


def hanging(text: str) -> bytes:
    """Return user data that waits for ever, three seconds of which its first timer lets it."""
    assert FIRST in text
    assert READS in text
    text = text.replace(FIRST, "readonly FIRST=3")
    return text.replace(READS, f"{READS}  while :; do say waiting; sleep 1; done\n").encode()


@pytest.mark.parametrize(
    ("absent", "word"),
    [
        ("root", "without root"),
        ("systemd-nspawn", "apt-get install systemd-container"),
        ("mmdebstrap", "apt-get install mmdebstrap"),
    ],
)
def test_where_it_cannot_boot_it_is_said_what_is_missing(
    absent: str, word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the reason why the tests are skipped."""
    monkeypatch.setattr("os.geteuid", lambda: int(absent == "root"))
    monkeypatch.setattr("shutil.which", lambda name: None if name == absent else name)
    with pytest.raises(pytest.skip.Exception, match=word):
        image()


def test_a_booted_instance_runs_its_plan_and_powers_itself_off(spot: Spot) -> None:
    """I06, I23: with what cloud-init and systemd give it, which is no HOME and none of ours."""
    spot.table.stage("a")

    instance = left_alone(spot)

    assert set(environment(instance)) <= FROM_SYSTEMD
    journal = powered_off(instance)
    (record,) = spot.records()
    assert (record["state"], record["outcome"], record["code"]) == ("closed", "committed", 0)
    assert record["host"] == instance.id
    assert spot.table.commit("a")
    timers = [f"Started spot-backtest-{name}.timer" for name in ("first", "deadline")]
    assert 0 < journal.index(timers[0]) < journal.index(timers[1])
    assert "Started spot-backtest-deadline.service" not in journal


def test_user_data_that_hangs_is_powered_off_by_the_timer_that_it_set_first(spot: Spot) -> None:
    """I06: nobody else is there to end it."""
    spot.table.stage("a")
    spot.aws.user_data = hanging(BOOTSTRAP.read_text())

    journal = powered_off(left_alone(spot))

    assert "Started spot-backtest-first.service" in journal
    assert spot.table.receipts("a") == []


def test_without_that_timer_it_hangs_on(spot: Spot) -> None:
    """So it is the timer that ends it, and no other part of the container."""
    spot.table.stage("a")
    text = BOOTSTRAP.read_text()
    assert ARMS in text
    spot.aws.user_data = hanging(text.replace(ARMS, ""))

    instance = left_alone(spot)

    until(lambda: spot.console().count("waiting") > 8)
    assert instance.state == "running"


def test_a_shutdown_from_outside_ends_the_stage_that_runs(spot: Spot) -> None:
    """I06: as EC2 ends an instance; nothing of it is complete, and nothing is left open."""
    spot.table.stage("a", "echo begun; sleep 1000")
    launcher = spot.start()
    spot.until(launcher, lambda: "begun" in spot.console())
    (instance,) = spot.aws.instances.values()

    container(instance).press()

    done = spot.end(launcher, timeout=150)
    assert done.code not in (0, 75), done.err
    assert until(lambda: instance.state == "terminated")
    assert spot.table.commit("a") is None
    (record,), (receipt,) = spot.records(), spot.table.receipts("a")
    assert (record["state"], receipt["state"]) == ("closed", "closed")


def test_what_is_shut_down_says_so_and_ships_its_log_before_the_network_goes(spot: Spot) -> None:
    """I04, I06: the record and the receipt are closed there, and the log is whole."""
    spot.table.stage("a", "echo begun; sleep 1000")
    instance = left_alone(spot)
    until(lambda: "begun" in spot.console())

    container(instance).press()

    powered_off(instance)
    (record,) = spot.records()
    assert (record["state"], record.get("outcome"), record.get("code")) == ("closed", "ended", 143)
    assert record["error"] == "the instance was shut down"
    (receipt,) = spot.table.receipts("a")
    assert receipt["state"] == "closed"
    assert "begun\n" in spot.table.log("a")
    stored = spot.store.read(record["log"])
    assert stored is not None
    assert "spot_backtest: a: " in stored[0].decode().partition("begun\n")[2]


def test_what_its_timer_ends_says_where_it_hung_before_the_network_goes(spot: Spot) -> None:
    """I04, I06: the log of the boot is in the store, and the record names the step."""
    spot.table.stage("a")
    spot.aws.user_data = hanging(BOOTSTRAP.read_text())

    powered_off(left_alone(spot))

    (record,) = spot.records()
    assert (record["state"], record.get("outcome"), record.get("code")) == ("closed", "failed", 69)
    assert "reading the instance tags failed" in record["error"]
    stored = spot.store.read(record["log"])
    assert stored is not None
    assert b"waiting\n" in stored[0]
