"""The one request for an instance, and what each answer to it means."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import pytest

from shim import fleet
from shim.ec2 import refusal
from shim.errors import AccessError, PipelineError, PreflightError
from shim.fleet import NoCapacityError, Pool
from shim.spot_table import Spot

SPOT = Spot(
    launch_template="spot-backtest",
    version="$Default",
    types=("c5.large", "m5.large"),
    vcpus=0,
    memory=0,
    subnets=("subnet-1", "subnet-2"),
    max_runtime=3600,
    attempts=3,
    backoff=60,
    on_demand_last=False,
    max_price="0.2",
    tags=(),
)
FLOORS = dataclasses.replace(SPOT, types=(), vcpus=2, memory=4096)


def asked(spot: Spot = SPOT, market: str = "spot", excluded: list[Pool] | None = None) -> Any:
    """Return the request for every pool."""
    return fleet.request(spot, fleet.pools(spot), market, {"Name": "x"}, "token", excluded or [])


def overrides(request: Any) -> list[dict[str, Any]]:
    """Return the pools of a request."""
    found: list[dict[str, Any]] = request["LaunchTemplateConfigs"][0]["Overrides"]
    return found


def error(code: str, kind: str = "c5.large", subnet: str = "subnet-1") -> dict[str, Any]:
    """Return one of the errors of an answer, as EC2 gives them."""
    used = {"Overrides": {"InstanceType": kind, "SubnetId": subnet}}
    return {"ErrorCode": code, "ErrorMessage": "said EC2.", "LaunchTemplateAndOverrides": used}


def test_every_type_in_every_subnet_is_asked_in_one_request() -> None:
    """I07: instant and price-capacity-optimized are said, for neither is the default."""
    request = asked()
    assert request["Type"] == "instant"
    assert request["SpotOptions"]["AllocationStrategy"] == "price-capacity-optimized"
    assert [(o["InstanceType"], o["SubnetId"], o["MaxPrice"]) for o in overrides(request)] == [
        ("c5.large", "subnet-1", "0.2"),
        ("c5.large", "subnet-2", "0.2"),
        ("m5.large", "subnet-1", "0.2"),
        ("m5.large", "subnet-2", "0.2"),
    ]
    assert request["TargetCapacitySpecification"]["TotalTargetCapacity"] == 1


def test_floors_are_asked_for_where_no_type_is_named_without_the_types_that_took_one_back() -> None:
    """I08, I11: EC2 chooses above the floor; a type is excluded in the subnet it failed in."""
    first, second = overrides(asked(FLOORS, excluded=[Pool("c5.large", "subnet-1")]))
    needed = {"VCpuCount": {"Min": 2}, "MemoryMiB": {"Min": 4096}}
    assert first["InstanceRequirements"] == {**needed, "ExcludedInstanceTypes": ["c5.large"]}
    assert second["InstanceRequirements"] == needed


def test_an_on_demand_request_has_no_price_limit() -> None:
    """MaxPrice is for spot instances."""
    request = asked(market="on-demand")
    assert request["TargetCapacitySpecification"]["DefaultTargetCapacityType"] == "on-demand"
    assert all("MaxPrice" not in pool for pool in overrides(request))


def test_a_template_is_named_by_its_id_or_its_name() -> None:
    """An id starts with lt-."""
    assert fleet.template(SPOT) == {"LaunchTemplateName": "spot-backtest", "Version": "$Default"}
    by_id = dataclasses.replace(SPOT, launch_template="lt-0123", version="4")
    assert fleet.template(by_id) == {"LaunchTemplateId": "lt-0123", "Version": "4"}


def test_a_client_token_is_of_its_execution_stages_launch_and_pools() -> None:
    """I40: the same question has the same token, any other one another; 64 ASCII characters."""
    pools = fleet.pools(SPOT)
    tokens = [
        fleet.token("e", ["a"], "l-1", pools),
        fleet.token("f", ["a"], "l-1", pools),
        fleet.token("e", ["a", "b"], "l-1", pools),
        fleet.token("e", ["a"], "l-2", pools),
        fleet.token("e", ["a"], "l-1", pools[1:]),
    ]
    assert len(set(tokens)) == len(tokens)
    assert fleet.token("e", ["a"], "l-1", pools) == tokens[0]
    assert all(re.fullmatch(r"[0-9a-f]{64}", token) for token in tokens)


def test_an_instance_is_what_the_answer_says_it_is() -> None:
    """Errors of other pools beside it do not matter."""
    used = {"Overrides": {"SubnetId": "subnet-2", "AvailabilityZone": "eu-west-1b"}}
    group = {
        "InstanceIds": ["i-1"],
        "InstanceType": "m5.large",
        "Lifecycle": "spot",
        "LaunchTemplateAndOverrides": used,
    }
    answer = {"Instances": [group], "Errors": [error("InsufficientInstanceCapacity")]}
    made = fleet.answer(answer)
    assert dataclasses.astuple(made) == ("i-1", "m5.large", "subnet-2", "eu-west-1b", "spot")


def test_no_capacity_is_said_pool_by_pool() -> None:
    """I07: exit 75, for a later try may find room."""
    errors = [
        error("InsufficientInstanceCapacity"),
        error("SpotMaxPriceTooLow", subnet="subnet-2"),
        error("MaxSpotInstanceCountExceeded", "m5.large"),
    ]
    with pytest.raises(NoCapacityError) as caught:
        fleet.answer({"Instances": [], "Errors": errors})
    assert caught.value.code == 75
    assert caught.value.refused == {
        "c5.large in subnet-1": "InsufficientInstanceCapacity",
        "c5.large in subnet-2": "SpotMaxPriceTooLow",
        "m5.large in subnet-1": "MaxSpotInstanceCountExceeded",
    }


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("UnauthorizedOperation", AccessError),
        ("InvalidAMIID.NotFound", PipelineError),
        ("InvalidLaunchTemplateName.NotFoundException", PipelineError),
        ("SomethingElse", PreflightError),
    ],
)
def test_what_no_later_try_can_mend_is_not_called_lack_of_capacity(
    code: str, kind: type[Exception]
) -> None:
    """I09: rights, images and templates fail at once, also beside pools without capacity."""
    errors = [error("InsufficientInstanceCapacity"), error(code, subnet="subnet-2")]
    with pytest.raises(kind, match=code):
        fleet.answer({"Errors": errors})
    assert isinstance(refusal({"Code": code, "Message": "no"}), kind)


def test_an_answer_without_an_instance_and_without_an_error_is_a_failure() -> None:
    """I36: no id is a failure, and so is an empty list of them."""
    empty: list[list[dict[str, list[str]]]] = [[], [{"InstanceIds": []}]]
    for instances in empty:
        with pytest.raises(PreflightError, match="no instance and no error"):
            fleet.answer({"FleetId": "fleet-1", "Instances": instances, "Errors": []})
