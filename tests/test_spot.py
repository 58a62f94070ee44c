"""Runs on instances, end to end: the entry here, real user data there, one run date for both."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from shim import commit
from shim.store import Store, open_store
from tests.children import until
from tests.lab.aws import AwsLab
from tests.launches import Spot
from tests.stages import DATE, PREFIX

STAGES = ["backtest", "parity", "evaluator"]
POOLS = ["c5.large", "m5.large"]


@pytest.fixture
def spot(aws: AwsLab, tool: Path, tmp_path: Path) -> Spot:
    """Three stages, and instances to run them on."""
    made = Spot(aws, tool, tmp_path / "spot")
    made.table.three()
    return made


def committed(store: Store) -> dict[str, str]:
    """Return each commit's text without what is each attempt's own: its id and the time."""
    found = {}
    for stage in STAGES:
        there = store.read(commit.key(PREFIX, stage))
        assert there is not None
        text, values = there[0].decode(), json.loads(there[0])
        for name in ("attempt", "committed"):
            text = text.replace(json.dumps(values[name]), name)
        found[stage] = text
    return found


def artifacts(store: Store) -> dict[str, str]:
    """Return the digest of every artifact of the date."""
    found = (there.key for there in store.list(PREFIX))
    return {key: store.digest(key) for key in found if "/_stages/" not in key}


def leaves_what_a_run_here_leaves(spot: Spot) -> None:
    """Compare artifacts and commits, byte for byte, with a run of the same execution here."""
    here = f"s3://{spot.aws.bucket}/here"
    same = spot.run("--on", "here", "--store", here, EXECUTION_ID="one")
    assert same.code == 0, same.err

    assert artifacts(open_store(here)) == artifacts(spot.store)
    assert committed(open_store(here)) == committed(spot.store)


def test_one_instance_for_all_stages_leaves_what_a_run_here_leaves(spot: Spot) -> None:
    """I01, I14: artifacts and commits, byte for byte; exit 0, nothing alive."""
    done = spot.run(EXECUTION_ID="one")
    assert done.code == 0, done.err + spot.console()

    leaves_what_a_run_here_leaves(spot)
    assert len(spot.aws.instances) == 1
    assert spot.aws.alive() == []


@pytest.mark.slow
def test_one_instance_for_each_stage_leaves_what_a_run_here_leaves(spot: Spot) -> None:
    """I01, I14: as a state machine calls it: three launches, one date, execution and code."""
    for stage in STAGES:
        done = spot.run("--only-stages", stage, EXECUTION_ID="one")
        assert done.code == 0, done.err + spot.console()

    leaves_what_a_run_here_leaves(spot)
    assert len(spot.aws.instances) == 3
    assert spot.aws.alive() == []


def test_a_launch_is_told_while_it_lasts_and_costed_when_it_is_over(spot: Spot) -> None:
    """The log of the instance, its states and pool here; the price in the record and the table."""
    zone = next(iter(spot.aws.subnets.values()))
    spot.aws.prices({(kind, z): 0.05 for kind in POOLS for z in spot.aws.subnets.values()})
    spot.aws.prices({("c5.large", zone): 0.01})

    done = spot.run()

    assert done.code == 0, done.err + spot.console()
    (instance,) = spot.aws.instances
    assert f"launched {instance}, c5.large spot in {zone}" in done.err
    assert f"{instance} is running its stages" in done.err
    assert re.search(r"^evaluator +committed ", done.out, re.M), "the instance's own table"
    assert re.search(
        rf"^\S+-1 +{instance} +c5\.large spot {zone} +0\.0100 .*committed$", done.out, re.M
    )
    (record,) = spot.records()
    assert (record["state"], record["outcome"], record["code"]) == ("closed", "committed", 0)
    assert (record["price"], record["market"], record["zone"]) == (0.01, "spot", zone)
    assert record["cost"] == pytest.approx(max(record["run_seconds"], 60) * 0.01 / 3600, rel=0.05)


def test_a_stage_that_fails_there_fails_here_with_its_code(spot: Spot) -> None:
    """I03, I09: a failure is not tried again, and the log says why."""
    spot.table.stage("gates", "echo no good >&2; exit 43", produces=[])

    done = spot.run("--only-stages", "gates")

    assert done.code == 43, done.err
    assert "no good" in done.out
    assert [record["outcome"] for record in spot.records()] == ["failed"]
    assert spot.aws.alive() == []


@pytest.mark.slow
def test_a_pool_with_room_is_found_in_one_request_and_the_rest_is_said(spot: Spot) -> None:
    """I07: every pool but one is without capacity."""
    subnets = list(spot.aws.subnets)
    full = {(kind, subnet): "InsufficientInstanceCapacity" for kind in POOLS for subnet in subnets}
    spot.aws.capacity({**full, ("m5.large", subnets[2]): None})

    done = spot.run("--only-stages", "backtest")

    assert done.code == 0, done.err + spot.console()
    (instance,) = spot.aws.instances.values()
    assert (instance.type, instance.subnet) == ("m5.large", subnets[2])


def test_a_type_below_the_floor_is_refused_before_the_launch(
    aws: AwsLab, tool: Path, tmp_path: Path
) -> None:
    """I08: one type of the table has 4 GiB, and 8 are asked for."""
    spot = Spot(aws, tool, tmp_path / "spot", vcpus=2, memory="8 GiB")
    spot.table.three()

    done = spot.run()

    assert done.code == 78, done.err
    assert "the type c5.large has 2 vCPUs and 4096 MiB" in done.err
    assert (spot.aws.instances, spot.records()) == ({}, [])


@pytest.mark.slow
def test_an_instance_that_nobody_knows_at_first_is_waited_for(spot: Spot) -> None:
    """I33: what was launched can be unknown to EC2 for a while."""
    spot.aws.invisible = 3.0

    done = spot.run("--only-stages", "backtest")

    assert done.code == 0, done.err + spot.console()
    unknown = [c for c in spot.aws.calls if c.outcome == "InvalidInstanceID.NotFound"]
    assert unknown, "it was asked for too late"
    assert len(spot.aws.instances) == 1


def test_without_capacity_anywhere_it_is_75_with_each_pools_reason(spot: Spot) -> None:
    """I07, I40: the pools are asked `attempts` times, and nothing is left open."""
    spot.aws.no_capacity()
    spot.aws.capacity({("c5.large", next(iter(spot.aws.subnets))): "SpotMaxPriceTooLow"})

    done = spot.run()

    assert done.code == 75, done.err
    for kind in POOLS:
        for subnet in spot.aws.subnets:
            assert f"{kind} in {subnet}: " in done.err
    assert "SpotMaxPriceTooLow" in done.err
    assert [record["outcome"] for record in spot.records()] == ["no capacity"] * 3
    assert spot.aws.instances == {}


@pytest.mark.slow
def test_the_last_launch_is_on_demand_if_the_table_says_so(
    aws: AwsLab, tool: Path, tmp_path: Path
) -> None:
    """I11: where no pool has a spot instance."""
    spot = Spot(aws, tool, tmp_path / "spot", attempts=2, on_demand_last=True)
    spot.table.three()
    aws.no_capacity(market="spot")

    done = spot.run("--only-stages", "backtest")

    assert done.code == 0, done.err + spot.console()
    assert [made.market for made in aws.instances.values()] == ["on-demand"]
    assert [record["outcome"] for record in spot.records()] == ["no capacity", "committed"]


def test_a_booted_instance_is_three_calls_after_the_plan_was_checked(spot: Spot) -> None:
    """The bundle, the record and the request, in this order: no instance without a record."""
    done = spot.run("--only-stages", "backtest")
    assert done.code == 0, done.err

    mine = [call for call in spot.aws.calls if call.caller == "launcher"]
    names = [call.operation for call in mine]
    asked = next(
        at for at, call in enumerate(mine)
        if call.operation == "CreateFleet" and not call.params.get("DryRun")
    )  # fmt: skip
    assert names[asked - 2 : asked + 1] == ["PutObject", "PutObject", "CreateFleet"]
    assert "/_bundles/" in f"/{mine[asked - 2].params['Key']}"
    assert "/_launches/" in mine[asked - 1].params["Key"]
    changing = [n for n in names[:asked] if not n.startswith(("Describe", "Head", "Get", "List"))]
    # Before that nothing is changed but preflight's probe of the store, written and removed.
    assert changing == ["PutObject", "DeleteObject", "CreateFleet", "PutObject", "PutObject"]


def test_a_dry_run_prints_the_pools_with_their_prices_and_launches_nothing(spot: Spot) -> None:
    """The rights are proven by EC2's own dry run; the cheapest pool comes first."""
    zones = list(spot.aws.subnets.values())
    spot.aws.prices({("m5.large", zones[1]): 0.002})

    done = spot.run("--dry-run")

    assert done.code == 0, done.err
    first = done.out.splitlines()[0]
    assert first.split()[0] == "m5.large"
    assert first.endswith("0.0020 USD/h")
    assert len(done.out.splitlines()) == 6
    assert "nothing is launched" in done.err
    assert (spot.aws.instances, spot.records()) == ({}, [])


def test_what_is_wrong_is_said_before_anything_is_launched(spot: Spot) -> None:
    """Rights, the template and the tree, all of them at once."""
    spot.aws.fault("ec2", "CreateFleet", "UnauthorizedOperation")
    done = spot.run("--preflight-only")
    assert done.code == 77, done.err
    assert "UnauthorizedOperation" in done.err

    spot.start().communicate()
    (spot.work / "new.txt").write_text("x")
    launcher = spot.command()
    dirty = subprocess.run(
        launcher, env=spot.env(), cwd=spot.work, capture_output=True, text=True, check=False
    )
    assert dirty.returncode not in (0, 70), dirty.stderr
    assert "--allow-dirty" in dirty.stderr


@pytest.mark.slow
def test_a_launch_that_is_left_alone_is_followed_by_anybody(spot: Spot) -> None:
    """--detach prints the command; it leaves with the launch's exit code."""
    done = spot.run("--detach", "--only-stages", "backtest")
    assert done.code == 0, done.err
    words = shlex.split(done.out.splitlines()[0])
    assert words[:2] == ["./spot_backtest.sh", "follow"]
    assert words[2].startswith(f"{spot.uri}/backtest/{DATE}/_stages/_launches/")

    followed = subprocess.run(
        ["bash", str(spot.tool / "spot_backtest.sh"), *words[1:]],
        env=spot.env(), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert followed.returncode == 0, followed.stderr + spot.console()
    assert "committed" in followed.stdout
    assert until(lambda: spot.aws.alive() == []), "it ends itself, after its record"
