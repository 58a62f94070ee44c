"""A launcher that dies at any point of its conversation with AWS, and what the next one finds."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections import Counter
from pathlib import Path

import pytest

from tests.children import PATIENCE, until
from tests.entry import Done
from tests.lab.aws import AwsLab, Call
from tests.launches import MARK, Spot, kill_all
from tests.stages import PREFIX

AROUND = [
    ("CreateFleet", 1, "before"),
    pytest.param("CreateFleet", 1, "done", marks=pytest.mark.slow),
    pytest.param("TerminateInstances", 0, "before", marks=pytest.mark.slow),
]


@pytest.fixture
def spot(aws: AwsLab, tool: Path, tmp_path: Path) -> Spot:
    """A stage that counts how often it committed its result."""
    made = Spot(aws, tool, tmp_path / "spot")
    made.table.stage("a")
    return made


def crash(spot: Spot, operation: str, after: int, when: str, mark: Path) -> bool:
    """Run a launcher that dies before or after the effect of a call; return whether it did."""
    died = threading.Event()

    def die(_: Call) -> None:
        kill_all(mark)  # its last look comes after the launcher's end
        died.set()

    fault = spot.aws.fault(
        "*", operation, "drop-before" if when == "before" else "drop-after",
        after=after, caller="launcher", **{when: die},
    )  # fmt: skip
    spot.run(EXECUTION_ID="once", **{MARK: str(mark)})
    spot.aws.heal()
    return fault.times == 0 and died.wait(PATIENCE)


def recovered(spot: Spot) -> Done:
    """Run the same command again and check what is left of both."""
    done = spot.run(EXECUTION_ID="once")
    assert done.code == 0, done.err + spot.console()
    assert until(lambda: spot.aws.alive() == [])
    assert spot.table.commit("a") is not None
    assert {record["state"] for record in spot.records()} == {"closed"}
    assert {receipt["state"] for receipt in spot.table.receipts("a")} <= {"closed"}
    assert len(spot.store.read(f"{PREFIX}_stages/a.json") or ()) == 2
    return done


@pytest.mark.parametrize(("operation", "after", "when"), AROUND)
def test_a_launcher_that_dies_around_its_request_leaves_no_instance_to_its_successor(
    spot: Spot, tmp_path: Path, operation: str, after: int, when: str
) -> None:
    """I06: the record was there first, so the instance is found and ended; one commit."""
    assert crash(spot, operation, after, when, tmp_path)
    recovered(spot)


@pytest.mark.slow
def test_a_launcher_that_dies_between_any_two_of_its_changes_is_recovered_from(
    aws: AwsLab, tool: Path, tmp_path: Path
) -> None:
    """I06: before the first, and after the effect of each; how often it looks decides nothing."""
    clean = Spot(aws, tool, tmp_path / "clean")
    clean.table.stage("a")
    assert clean.run().code == 0
    made = Counter(call.operation for call in aws.calls if call.caller == "launcher")
    changes = [name for name in made if not name.startswith(("Get", "List", "Head", "Describe"))]
    points = [(name, after, "done") for name in changes for after in range(made[name])]
    assert len(points) >= 10
    for number, (operation, after, when) in enumerate([("*", 0, "before"), *points]):
        spot = Spot(aws, tool, tmp_path / f"{number}")
        spot.use(f"{number}")
        spot.table.stage("a")
        assert crash(spot, operation, after, when, tmp_path / f"{number}"), (operation, after)
        recovered(spot)


@pytest.mark.parametrize(
    "number",
    [
        *(pytest.param(n, marks=pytest.mark.slow) for n in (signal.SIGINT, signal.SIGTERM)),
        signal.SIGKILL,
    ],
)
def test_a_launcher_that_is_ended_ends_its_instance(
    spot: Spot, tmp_path: Path, number: signal.Signals
) -> None:
    """I06: by a person, by a service manager, and untold: its session outlives it."""
    spot.table.stage("b", f"touch {tmp_path}/begun; sleep 60")
    launcher = spot.start("--only-stages", "b")
    until(lambda: (tmp_path / "begun").exists())

    os.killpg(launcher.pid, number) if number == signal.SIGKILL else launcher.send_signal(number)
    done = spot.end(launcher)

    assert done.code == (-9 if number == signal.SIGKILL else 128 + number), done.err
    assert until(lambda: spot.aws.alive() == [])
    until(lambda: spot.records()[0]["state"] == "closed")
    assert spot.records()[0]["outcome"] == "ended"
    assert {receipt["state"] for receipt in spot.table.receipts("b")} == {"closed"}


@pytest.mark.slow
def test_an_instance_that_nobody_knows_yet_is_ended_once_it_is_known(
    spot: Spot, tmp_path: Path
) -> None:
    """I06, I33: EC2 denies it for seconds after the launch, and it runs on."""
    spot.aws.invisible = 6.0
    spot.table.stage("b", f"touch {tmp_path}/begun; sleep 60")
    spot.aws.fault("s3", "GetObject", "hang", caller="", match="_bundles/")  # it cannot end itself
    launcher = spot.start("--only-stages", "b")
    (name,) = until(spot.aws.alive)

    launcher.send_signal(signal.SIGTERM)
    done = spot.end(launcher)

    assert done.code == 143, done.err
    assert spot.aws.instances[name].reason[0] == "Client.UserInitiatedShutdown"
    assert spot.aws.alive() == []


def test_of_two_launchers_for_one_stage_and_date_one_is_told_who_is_at_it(
    spot: Spot, tmp_path: Path
) -> None:
    """Exit 75, before an instance is asked for; the other one commits."""
    spot.table.stage("b", f"touch {tmp_path}/begun; while ! [ -e {tmp_path}/go ]; do sleep 0.05; "
                     'done; echo b > "$ARTIFACTS_DIR/b.txt"')  # fmt: skip
    first = spot.start("--only-stages", "b", EXECUTION_ID="first")
    until(lambda: (tmp_path / "begun").exists())

    second = spot.run("--only-stages", "b", EXECUTION_ID="second")
    (tmp_path / "go").touch()
    done = spot.end(first)

    assert second.code == 75, second.err
    assert "is run by execution first" in second.err
    assert "./spot_backtest.sh follow s3://" in second.err
    assert done.code == 0, done.err
    assert len(spot.aws.instances) == 1


@pytest.mark.slow
def test_what_is_past_its_deadline_or_abandoned_is_found_by_its_tags_and_ended(
    spot: Spot, tmp_path: Path
) -> None:
    """I06: --dry-run prints it first; a launch at work is left alone."""
    spot.table.stage("b", f"touch {tmp_path}/begun; sleep 60")
    launcher = spot.start("--only-stages", "b", **{MARK: str(tmp_path)})
    until(lambda: (tmp_path / "begun").exists())
    (name,) = spot.aws.alive()

    def reap(*words: str) -> str:
        command = ["bash", str(spot.tool / "spot_backtest.sh"), "reap", *words]
        done = subprocess.run(command, env=spot.env(), capture_output=True, text=True, check=True)
        return done.stdout

    assert reap().startswith(f"{name}  kept: at work until ")
    kill_all(tmp_path)
    spot.end(launcher)
    assert reap("--dry-run") == f"{name}  would end: its launcher is gone\n"
    assert spot.aws.alive() == [name]
    assert reap() == f"{name}  ended: its launcher is gone\n"
    assert spot.aws.alive() == []
    assert spot.records()[0]["outcome"] == "lost"
    assert reap() == ""
