"""What EC2 takes back is launched again, under the same date, execution and code."""

from __future__ import annotations

import json
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from shim import commit
from tests.children import read, until
from tests.lab.aws import AwsLab, Call
from tests.launches import Spot
from tests.stages import DATE, PREFIX

# The first attempt waits for what never comes; a later one finds what the first has left.
ONCE = """
if [ -e {folder}/begun ]; then echo again; else touch {folder}/begun; echo begun; sleep 60; fi
echo done > "$ARTIFACTS_DIR/a.txt"
"""


@pytest.fixture
def spot(aws: AwsLab, tool: Path, tmp_path: Path) -> Spot:
    """A stage that ends only where it was begun before, and one after it."""
    made = Spot(aws, tool, tmp_path / "spot")
    made.table.stage("a", ONCE.format(folder=tmp_path), produces=["a.txt"])
    made.table.stage("b", 'cat "$ARTIFACTS_DIR/a.txt" > "$ARTIFACTS_DIR/b.txt"',
                     needs=["a"], requires=["a.txt"])  # fmt: skip
    return made


def begun(folder: Path) -> bool:
    """Return whether the stage has begun."""
    return (folder / "begun").exists()


def _begun_times(folder: Path, times: int) -> bool:
    return read(folder / "begun").count(b"x") == times


def receipts(spot: Spot, stage: str) -> list[dict[str, Any]]:
    """Return the receipts of a stage, the oldest first."""
    return spot.table.receipts(stage)


@pytest.mark.parametrize(
    "notice", [3.0, *(pytest.param(n, marks=pytest.mark.slow) for n in (None, 0.5))]
)
def test_a_reclaim_is_launched_again_in_another_pool_with_the_same_date_execution_and_code(
    spot: Spot, tmp_path: Path, notice: float | None
) -> None:
    """I09, I10, I11: with two minutes' notice, with hardly any, and without."""
    launcher = spot.start(EXECUTION_ID="once")
    until(lambda: begun(tmp_path))
    (first,) = spot.aws.alive()

    spot.aws.reclaim(first, notice)
    done = spot.end(launcher)

    assert done.code == 0, done.err + spot.console()
    assert spot.aws.alive() == []
    one, two = spot.records()
    assert (one["outcome"], two["outcome"]) == ("reclaimed", "committed")
    assert one["code"] == 75
    assert (one["type"], one["subnet"]) != (two["type"], two["subnet"])
    for name in ("execution_id", "run_date", "code_version", "bundle"):
        assert one[name] == two[name]
    lost, kept = receipts(spot, "a")
    assert lost["state"] == "closed"
    assert lost["outcome"] in (("reclaimed",) if notice == 3.0 else ("reclaimed", "lost"))
    assert kept["outcome"] == "committed"
    assert (lost["run_date"], lost["code_version"]) == (kept["run_date"], kept["code_version"])
    assert "again" in done.out


@pytest.mark.slow
def test_a_reclaim_while_it_publishes_leaves_half_of_it_to_nobody(
    aws: AwsLab, tool: Path, tmp_path: Path
) -> None:
    """I09: between two artifacts, untold; the next launch publishes all and commits once."""
    spot = Spot(aws, tool, tmp_path / "spot")
    names = [f"{name}.txt" for name in "pqr"]
    spot.table.stage("a", produces=names)

    def take_back(call: Call) -> None:
        assert spot.table.commit("a") is None
        aws.reclaim(call.caller, None)

    aws.fault("s3", "PutObject", "drop-after", match=f"{PREFIX}q.txt", done=take_back)
    done = spot.run()

    assert done.code == 0, done.err + spot.console()
    assert [record["outcome"] for record in spot.records()] == ["reclaimed", "committed"]
    there = spot.table.commit("a")
    assert there is not None
    assert sorted(there.artifacts) == names
    assert commit.problems(spot.store, PREFIX, there, DATE) == []


@pytest.mark.slow
def test_two_reclaims_in_a_row_end_in_an_on_demand_instance(
    aws: AwsLab, tool: Path, tmp_path: Path
) -> None:
    """I11, I40: the last launch is one that EC2 does not take back."""
    spot = Spot(aws, tool, tmp_path / "spot", attempts=3, on_demand_last=True)
    spot.table.stage("a", f"echo x >> {tmp_path}/begun; [ $(wc -l < {tmp_path}/begun) = 3 ] || "
                     'sleep 60; echo a > "$ARTIFACTS_DIR/a.txt"')  # fmt: skip
    launcher = spot.start()
    for times in (1, 2):
        spot.until(launcher, partial(_begun_times, tmp_path, times))
        aws.reclaim(aws.alive()[0], None)
    done = spot.end(launcher)

    assert done.code == 0, done.err + spot.console()
    assert [made.market for made in aws.instances.values()] == ["spot", "spot", "on-demand"]
    outcomes = [record["outcome"] for record in spot.records()]
    assert outcomes == ["reclaimed", "reclaimed", "committed"]


@pytest.mark.slow
def test_a_commit_from_before_a_launch_is_none_of_its_own(
    aws: AwsLab, tool: Path, tmp_path: Path
) -> None:
    """Invariant 2: a command that is given again and reclaimed repeats what no longer verifies."""
    spot = Spot(aws, tool, tmp_path / "spot")
    spot.table.stage("a", f"if [ -e {tmp_path}/wait ]; then rm {tmp_path}/wait; sleep 60; fi; "
                     'echo a > "$ARTIFACTS_DIR/a.txt"')  # fmt: skip
    assert spot.run(EXECUTION_ID="once").code == 0
    spot.store.delete(f"{PREFIX}a.txt")
    (tmp_path / "wait").touch()
    launcher = spot.start(EXECUTION_ID="once")
    spot.until(launcher, lambda: not (tmp_path / "wait").exists())

    aws.reclaim(aws.alive()[0], None)
    done = spot.end(launcher)

    assert done.code == 0, done.err
    assert spot.table.commit("a") is not None


@pytest.mark.slow
def test_a_stage_that_finishes_after_the_notice_simply_finishes(
    aws: AwsLab, tool: Path, tmp_path: Path
) -> None:
    """Work goes on until shortly before the end; nothing is launched again."""
    spot = Spot(aws, tool, tmp_path / "spot")
    spot.table.stage("a", f"touch {tmp_path}/begun; while ! [ -e {tmp_path}/go ]; do sleep 0.05; "
                     'done; echo a > "$ARTIFACTS_DIR/a.txt"')  # fmt: skip
    launcher = spot.start()
    until(lambda: begun(tmp_path))

    aws.reclaim(aws.alive()[0], 30.0)
    until(lambda: "notice" in (spot.records()[0]))
    (tmp_path / "go").touch()
    done = spot.end(launcher)

    assert done.code == 0, done.err + spot.console()
    assert [record["outcome"] for record in spot.records()] == ["committed"]


@pytest.mark.slow
def test_what_a_stage_checkpointed_is_there_again(aws: AwsLab, tool: Path, tmp_path: Path) -> None:
    """It counts to ten over two instances and starts at no number twice."""
    spot = Spot(aws, tool, tmp_path / "spot")
    count = f"""
cd "$CHECKPOINT_DIR"
n=$(cat n 2>/dev/null || echo 0)
echo "from $n"
while [ "$n" -lt 10 ]; do
  n=$((n + 1)); echo $n > n.part; mv n.part n; echo $n >> {tmp_path}/counted
  if [ "$n" = 5 ] && ! [ -e {tmp_path}/begun ]; then touch {tmp_path}/begun; sleep 60; fi
done
cp n "$ARTIFACTS_DIR/a.txt"
"""
    spot.table.stage("a", count)
    launcher = spot.start()
    until(lambda: begun(tmp_path))
    aws.reclaim(aws.alive()[0], 3.0)
    done = spot.end(launcher)

    assert done.code == 0, done.err + spot.console()
    assert "from 5" in done.out
    assert (tmp_path / "counted").read_text().split() == [str(n) for n in range(1, 11)]
    kept = [o.key for o in spot.store.list(f"{PREFIX}_stages/_checkpoints/")]
    assert kept == [], "what is committed needs no checkpoint"


@pytest.mark.slow
def test_every_instance_is_taken_back_until_there_are_no_attempts_left(
    aws: AwsLab, tool: Path, tmp_path: Path
) -> None:
    """I11, I40: 75, a bounded number of launches, each in a pool that took none back."""
    spot = Spot(aws, tool, tmp_path / "spot")
    spot.table.stage("a", f"echo x >> {tmp_path}/begun; sleep 60")
    stop = threading.Event()

    def take_back() -> None:
        while not stop.is_set():
            begins = tmp_path / "begun"
            if begins.exists() and len(begins.read_text().split()) == len(aws.instances):
                for name in aws.alive():
                    aws.reclaim(name, None)
            time.sleep(0.05)

    thread = threading.Thread(target=take_back)
    thread.start()
    try:
        done = spot.run()
    finally:
        stop.set()
        thread.join()

    assert done.code == 75, done.err + spot.console()
    assert [record["outcome"] for record in spot.records()] == ["reclaimed"] * 3
    pools = [(made.type, made.subnet) for made in aws.instances.values()]
    assert len(set(pools)) == 3
    assert aws.alive() == []
    claim = spot.store.read(f"{PREFIX}_stages/_claim.json")
    assert claim is not None
    for entry in json.loads(claim[0])["open"].values():
        states = {r["attempt"]: r["state"] for r in spot.table.receipts("a")}
        assert states[entry["attempt"]] == "closed", "nobody is waited for"
    keys = spot.table.keys()
    assert all(key.startswith((f"backtest/{DATE}/", "_")) for key in keys)
