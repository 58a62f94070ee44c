"""EC2 of the lab answers as AWS documents it; the pages are named in tests/lab/ec2.py."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Mapping
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.children import alive, read, until
from tests.lab.aws import REGION, AwsLab
from tests.lab.ec2_instances import ENDED, SHUT_DOWN
from tests.lab.ec2_requests import TYPES, Ec2Error
from tests.lab.machine import Machine

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client

IDLE = b"#!/bin/sh\nexec sleep 1000\n"
FLOORS = {"VCpuCount": {"Min": 2}, "MemoryMiB": {"Min": 8000}}
SESSION = boto3.session.Session(
    aws_access_key_id="the tests", aws_secret_access_key="secret", region_name=REGION
)


@pytest.fixture
def ec2(aws: AwsLab) -> EC2Client:
    """A client that asks once; instances are known at once and wait."""
    aws.user_data, aws.invisible = IDLE, 0.0
    config = Config(retries={"mode": "standard", "total_max_attempts": 1})
    return SESSION.client("ec2", endpoint_url=aws.url, config=config)


def asked(aws: AwsLab, *overrides: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """Return a request for a spot instance, in the first subnet unless told otherwise."""
    pool = {"InstanceType": "c5.large", "SubnetId": next(iter(aws.subnets))}
    used = {"LaunchTemplateName": aws.template, "Version": "$Default"}
    config = {"LaunchTemplateSpecification": used, "Overrides": list(overrides) or [pool]}
    capacity = {"TotalTargetCapacity": 1, "DefaultTargetCapacityType": "spot"}
    request = {
        "Type": "instant",
        "LaunchTemplateConfigs": [config],
        "TargetCapacitySpecification": capacity,
        **more,
    }
    return {key: value for key, value in request.items() if value is not None}


def with_template(aws: AwsLab, **used: str) -> dict[str, Any]:
    """Return a request that names its launch template so."""
    request = asked(aws)
    request["LaunchTemplateConfigs"][0]["LaunchTemplateSpecification"] = used
    return request


def launched(ec2: EC2Client, aws: AwsLab, *overrides: Mapping[str, Any], **more: Any) -> str:
    """Launch an instance and return its id."""
    answer = ec2.create_fleet(**asked(aws, *overrides, **more))
    (made,) = answer["Instances"]
    (name,) = made["InstanceIds"]
    return name


def refused(call: Any, **request: Any) -> str:
    """Return the code of the error that a call ends in."""
    with pytest.raises(ClientError) as caught:
        call(**request)
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
    return str(caught.value.response["Error"]["Code"])


def errors(answer: Mapping[str, Any]) -> dict[tuple[str, str], str]:
    """Return the error of each pool that was of no use, by type and subnet."""
    rows = [(r["LaunchTemplateAndOverrides"]["Overrides"], r) for r in answer["Errors"]]
    return {(used["InstanceType"], used["SubnetId"]): r["ErrorCode"] for used, r in rows}


def described(ec2: EC2Client, name: str) -> dict[str, Any]:
    """Return what is said of an instance."""
    answer = ec2.describe_instances(InstanceIds=[name])
    return dict(answer["Reservations"][0]["Instances"][0])


def left(ec2: EC2Client, name: str, state: str = "terminated") -> tuple[str, str]:
    """Wait for a state and return why it was entered: code and message."""
    until(lambda: described(ec2, name)["State"]["Name"] == state)
    reason = described(ec2, name)["StateReason"]
    return reason["Code"], reason["Message"]


def found(ec2: EC2Client, filters: Mapping[str, list[str]]) -> set[str]:
    """Return the ids that filters let pass."""
    chosen: list[Any] = [{"Name": name, "Values": values} for name, values in filters.items()]
    answer = ec2.describe_instances(Filters=chosen)
    return {row["InstanceId"] for group in answer["Reservations"] for row in group["Instances"]}


def metadata(aws: AwsLab, name: str, path: str) -> bytes:
    """Return what an instance's own metadata service says."""
    machine = aws.instances[name].machine
    assert isinstance(machine, Machine)
    server = http.client.HTTPConnection(urlsplit(machine.imds.url).netloc, timeout=5)
    with closing(server):
        lifetime = {"X-aws-ec2-metadata-token-ttl-seconds": "60"}
        server.request("PUT", "/latest/api/token", headers=lifetime)
        token = server.getresponse().read().decode()
    with closing(server):
        server.request(
            "GET", f"/latest/meta-data/{path}", headers={"X-aws-ec2-metadata-token": token}
        )
        return server.getresponse().read()


# Fleets


def test_an_instant_fleet_answers_with_the_instance_and_its_pool(
    ec2: EC2Client, aws: AwsLab
) -> None:
    """An instance is a process, and described with the same type, subnet, zone and market."""
    subnet, zone = list(aws.subnets.items())[1]
    pool = {"InstanceType": "m5.large", "SubnetId": subnet}

    answer = ec2.create_fleet(**asked(aws, pool))

    (made,) = answer["Instances"]
    (name,) = made["InstanceIds"]
    used = made["LaunchTemplateAndOverrides"]["Overrides"]
    assert (made["InstanceType"], made["Lifecycle"]) == ("m5.large", "spot")
    assert used == {**pool, "AvailabilityZone": zone}
    assert answer["Errors"] == []
    row = described(ec2, name)
    assert (row["InstanceType"], row["SubnetId"], row["InstanceLifecycle"]) == (
        *pool.values(),
        "spot",
    )
    assert row["Placement"]["AvailabilityZone"] == zone
    assert row["State"] == {"Code": 16, "Name": "running"}
    assert until(lambda: aws.instances[name].machine.pids())


def test_a_fleet_that_is_not_instant_answers_without_an_instance(
    ec2: EC2Client, aws: AwsLab
) -> None:
    """It is asynchronous, and `maintain` is the default."""
    for kind in (None, "maintain", "request"):
        answer = ec2.create_fleet(**asked(aws, Type=kind))
        assert answer["FleetId"]
        assert "Instances" not in answer
    assert aws.instances == {}


def test_the_market_is_on_demand_unless_it_is_said(ec2: EC2Client, aws: AwsLab) -> None:
    """An on-demand instance has no lifecycle, and its price is another one."""
    name = launched(ec2, aws, TargetCapacitySpecification={"TotalTargetCapacity": 1})
    assert "InstanceLifecycle" not in described(ec2, name)
    assert aws.instances[name].market == "on-demand"
    assert aws.instances[name].price > aws.instances[launched(ec2, aws)].price


def test_a_template_is_known_by_its_name_or_its_id(ec2: EC2Client, aws: AwsLab) -> None:
    """Both with a version; what does not exist is named."""
    ec2.create_fleet(**with_template(aws, LaunchTemplateName=aws.template, Version="1"))
    there = ec2.describe_launch_template_versions(
        LaunchTemplateName=aws.template, Versions=["$Latest"]
    )
    by_id = there["LaunchTemplateVersions"][0]["LaunchTemplateId"]
    ec2.create_fleet(**with_template(aws, LaunchTemplateId=by_id, Version="$Latest"))
    assert len(aws.instances) == 2


def test_a_template_that_is_not_there_is_an_error(ec2: EC2Client, aws: AwsLab) -> None:
    """Of the whole request: no pool is asked."""

    def code(**used: str) -> str:
        return refused(ec2.create_fleet, **with_template(aws, **used))

    unknown = "InvalidLaunchTemplateName.NotFoundException"
    assert code(LaunchTemplateName="other", Version="1") == unknown
    assert code(LaunchTemplateId="lt-0", Version="1") == "InvalidLaunchTemplateId.NotFound"
    version = "InvalidLaunchTemplateId.VersionNotFound"
    assert code(LaunchTemplateName=aws.template, Version="2") == version
    assert code(LaunchTemplateName=aws.template) == "MissingParameter"
    assert code(Version="1") == "InvalidParameterCombination"
    assert aws.instances == {}


def test_a_dry_run_proves_the_rights_and_launches_nothing(ec2: EC2Client, aws: AwsLab) -> None:
    """Nor does it use up its token."""
    request = asked(aws, ClientToken="a token")
    assert refused(ec2.create_fleet, **request, DryRun=True) == "DryRunOperation"
    assert aws.instances == {}
    ec2.create_fleet(**request)
    assert len(aws.instances) == 1


def test_a_parameter_that_the_lab_has_not_is_refused(ec2: EC2Client, aws: AwsLab) -> None:
    """A fake that ignores what it is asked for would let a wrong request pass."""
    for more in (
        {"SpotOptions": {"MinTargetCapacity": 1}},
        {"OnDemandOptions": {"AllocationStrategy": "prioritized"}},
        {"ExcessCapacityTerminationPolicy": "termination"},
    ):
        assert refused(ec2.create_fleet, **asked(aws, **more)) == "UnknownParameter"
    assert refused(ec2.describe_instances, MaxResults=5) == "UnknownParameter"
    two = asked(aws, TargetCapacitySpecification={"TotalTargetCapacity": 2})
    assert refused(ec2.create_fleet, **two) == "UnsupportedOperation"


def test_an_action_that_the_lab_has_not_is_refused(ec2: EC2Client) -> None:
    """moto's own instances would be seen by nobody."""
    assert refused(ec2.run_instances, MinCount=1, MaxCount=1) == "InvalidAction"
    assert refused(ec2.describe_instance_status) == "InvalidAction"


# Client tokens


def test_the_same_request_with_its_token_launches_nothing_more(ec2: EC2Client, aws: AwsLab) -> None:
    """The answer is the same, also that there was no room; without a token each is another one."""
    request = asked(aws, ClientToken="a token")
    first, again = ec2.create_fleet(**request), ec2.create_fleet(**request)
    assert first["Instances"] == again["Instances"]
    assert len(aws.instances) == 1

    ec2.create_fleet(**asked(aws))
    ec2.create_fleet(**asked(aws))
    assert len(aws.instances) == 3

    aws.no_capacity()
    nothing = ec2.create_fleet(**asked(aws, ClientToken="another"))
    aws.ec2.nowhere.clear()
    assert ec2.create_fleet(**asked(aws, ClientToken="another"))["Errors"] == nothing["Errors"]
    assert len(aws.instances) == 3


def test_a_token_with_other_parameters_is_a_mismatch(ec2: EC2Client, aws: AwsLab) -> None:
    """Whatever they are; tokens differ by the case of their letters."""
    ec2.create_fleet(**asked(aws, ClientToken="a token"))
    other = asked(aws, {"InstanceType": "m5.large"}, ClientToken="a token")
    assert refused(ec2.create_fleet, **other) == "IdempotentParameterMismatch"
    ec2.create_fleet(**asked(aws, ClientToken="A token"))
    assert len(aws.instances) == 2


def test_a_token_whose_instance_has_ended_is_refused(ec2: EC2Client, aws: AwsLab) -> None:
    """It gives no instance that is gone, and launches no other one."""
    request = asked(aws, ClientToken="a token")
    (made,) = ec2.create_fleet(**request)["Instances"]
    ec2.terminate_instances(InstanceIds=made["InstanceIds"])
    left(ec2, made["InstanceIds"][0])
    assert refused(ec2.create_fleet, **request) == "IdempotentInstanceTerminated"
    assert len(aws.instances) == 1


def test_a_token_is_short_and_ascii(ec2: EC2Client, aws: AwsLab) -> None:
    """64 characters at most."""
    for token in ("x" * 65, "tokén"):
        request = asked(aws, ClientToken=token)
        assert refused(ec2.create_fleet, **request) == "InvalidParameterValue"
    ec2.create_fleet(**asked(aws, ClientToken="x" * 64))


# Pools


def test_a_pool_without_room_is_an_error_beside_the_instance(ec2: EC2Client, aws: AwsLab) -> None:
    """By type, subnet and market, each with its own reason."""
    one, two = list(aws.subnets)[:2]
    pools = [(kind, subnet) for kind in ("c5.large", "m5.large") for subnet in (one, two)]
    overrides = [{"InstanceType": kind, "SubnetId": subnet} for kind, subnet in pools]
    aws.capacity(dict.fromkeys(pools[:2], "InsufficientInstanceCapacity"))
    aws.capacity({pools[2]: "MaxSpotInstanceCountExceeded"})

    answer = ec2.create_fleet(**asked(aws, *overrides))

    (made,) = answer["Instances"]
    assert made["LaunchTemplateAndOverrides"]["Overrides"].items() >= overrides[3].items()
    assert errors(answer) == {
        pools[0]: "InsufficientInstanceCapacity",
        pools[1]: "InsufficientInstanceCapacity",
        pools[2]: "MaxSpotInstanceCountExceeded",
    }
    assert {row["Lifecycle"] for row in answer["Errors"]} == {"spot"}


def test_a_market_without_room_leaves_the_other_one(ec2: EC2Client, aws: AwsLab) -> None:
    """capacity() is an exception to no_capacity(), in both ways."""
    (subnet, *_) = aws.subnets
    on_demand = {"TotalTargetCapacity": 1, "DefaultTargetCapacityType": "on-demand"}
    aws.no_capacity("UnfulfillableCapacity")
    nothing = ec2.create_fleet(**asked(aws))
    assert nothing["Instances"] == []
    assert errors(nothing) == {("c5.large", subnet): "UnfulfillableCapacity"}

    ec2.create_fleet(**asked(aws, TargetCapacitySpecification=on_demand))
    aws.capacity({("c5.large", subnet): None})
    ec2.create_fleet(**asked(aws))
    assert [made.market for made in aws.instances.values()] == ["on-demand", "spot"]

    aws.no_capacity("VcpuLimitExceeded", market="on-demand")
    (row,) = ec2.create_fleet(**asked(aws, TargetCapacitySpecification=on_demand))["Errors"]
    assert (row["ErrorCode"], row["Lifecycle"]) == ("VcpuLimitExceeded", "on-demand")


def test_the_cheapest_pool_with_room_is_taken(ec2: EC2Client, aws: AwsLab) -> None:
    """Among types and zones; where no subnet is named, among all of them."""
    zones = list(aws.subnets.values())
    aws.prices({("c5.large", zones[1]): 0.02, ("m5.large", zones[2]): 0.01})
    both = [{"InstanceType": kind} for kind in ("c5.large", "m5.large")]

    def pool() -> tuple[str, str, float]:
        made = aws.instances[launched(ec2, aws, *both)]
        return made.type, made.zone, made.price

    assert pool() == ("m5.large", zones[2], 0.01)
    aws.capacity({("m5.large", list(aws.subnets)[2]): "InsufficientInstanceCapacity"})
    assert pool() == ("c5.large", zones[1], 0.02)


def test_a_pool_above_the_price_limit_is_not_taken(ec2: EC2Client, aws: AwsLab) -> None:
    """MaxPrice limits spot instances only, and is USD 0.001 or more."""
    (subnet, *_), (zone, *_) = aws.subnets, aws.subnets.values()
    aws.prices({("c5.large", zone): 0.05})
    pool = {"InstanceType": "c5.large", "SubnetId": subnet}

    answer = ec2.create_fleet(**asked(aws, {**pool, "MaxPrice": "0.0499"}))
    assert errors(answer) == {("c5.large", subnet): "SpotMaxPriceTooLow"}
    assert answer["Instances"] == []

    launched(ec2, aws, {**pool, "MaxPrice": "0.05"})
    on_demand = {"TotalTargetCapacity": 1, "DefaultTargetCapacityType": "on-demand"}
    launched(ec2, aws, {**pool, "MaxPrice": "0.0499"}, TargetCapacitySpecification=on_demand)
    too_low = asked(aws, {**pool, "MaxPrice": "0.0009"})
    assert refused(ec2.create_fleet, **too_low) == "InvalidParameterValue"


def test_floors_are_every_type_above_them(ec2: EC2Client, aws: AwsLab) -> None:
    """In every subnet; without what is excluded, and burstable ones only if they are asked for."""
    aws.no_capacity()
    sixes = {"m5.large", "m6i.large", "m7i.large"}
    low = {"VCpuCount": {"Min": 1}, "MemoryMiB": {"Min": 1}}
    every = {kind for kind in TYPES if kind != "t3.small"}

    def types(**more: Any) -> set[str]:
        answer = ec2.create_fleet(**asked(aws, {"InstanceRequirements": {**FLOORS, **more}}))
        kinds = {kind for kind, _ in errors(answer)}
        assert set(errors(answer)) == {(kind, subnet) for kind in kinds for subnet in aws.subnets}
        return kinds

    assert types() == {*sixes, "r5.large", "c5.xlarge"}
    assert types(VCpuCount={"Min": 3}) == {"c5.xlarge"}
    assert types(VCpuCount={"Min": 2, "Max": 3}, MemoryMiB={"Min": 16000}) == {"r5.large"}
    fours = {"c5.large", "c6i.large", "c7i.large"}
    assert types(MemoryMiB={"Min": 4096, "Max": 4096}) == fours
    assert types(ExcludedInstanceTypes=["m5.large", "c*"]) == {*sixes, "r5.large"} - {"m5.large"}
    assert types(AllowedInstanceTypes=["m*", "r5.xlarge"]) == sixes
    assert types(ExcludedInstanceTypes=["*large"]) == set()
    assert types(**low) == types(**low, BurstablePerformance="excluded") == every
    assert types(**low, BurstablePerformance="included") == {*every, "t3.small"}
    assert types(**low, BurstablePerformance="required") == {"t3.small"}


def test_types_have_the_sizes_that_ec2_describes(ec2: EC2Client) -> None:
    """moto's are a copy of what DescribeInstanceTypes has answered."""
    answer = ec2.describe_instance_types(InstanceTypes=list(TYPES))  # type: ignore[arg-type]
    rows = {str(row["InstanceType"]): row for row in answer["InstanceTypes"]}
    assert {
        name: (row["VCpuInfo"]["DefaultVCpus"], row["MemoryInfo"]["SizeInMiB"])
        for name, row in rows.items()
    } == TYPES
    assert [name for name in TYPES if rows[name]["BurstablePerformanceSupported"]] == ["t3.small"]


def test_a_pool_is_a_type_or_floors_in_one_subnet(ec2: EC2Client, aws: AwsLab) -> None:
    """What contradicts itself, or says too little, fails the request."""
    both = {**FLOORS, "ExcludedInstanceTypes": ["a*"], "AllowedInstanceTypes": ["c*"]}
    kind = {"InstanceType": "c5.large"}
    for override, code in (
        ({"SubnetId": "subnet-1"}, "MissingParameter"),
        ({**kind, "InstanceRequirements": FLOORS}, "InvalidParameterCombination"),
        ({"InstanceRequirements": both}, "InvalidParameterCombination"),
        ({**kind, "SubnetId": "subnet-1,subnet-2"}, "InvalidParameterValue"),
    ):
        assert refused(ec2.create_fleet, **asked(aws, override)) == code, override


def test_a_pool_that_does_not_exist_is_its_own_error(ec2: EC2Client, aws: AwsLab) -> None:
    """The others are used."""
    (subnet, *_) = aws.subnets
    wrong = [
        {"InstanceType": "c9.large", "SubnetId": subnet},
        {"InstanceType": "c5.large", "SubnetId": "subnet-1"},
    ]
    answer = ec2.create_fleet(**asked(aws, *wrong, {"InstanceType": "c5.large"}))
    assert errors(answer) == {
        ("c9.large", subnet): "InvalidInstanceType",
        ("c5.large", "subnet-1"): "InvalidSubnetID.NotFound",
    }
    assert len(answer["Instances"]) == 1


# The life of an instance


def test_a_launched_instance_is_unknown_for_a_moment(ec2: EC2Client, aws: AwsLab) -> None:
    """To be described and to be ended alike: an end that is refused is no end."""
    aws.invisible = 1e9
    name = launched(ec2, aws)
    unknown = "InvalidInstanceID.NotFound"
    assert refused(ec2.describe_instances, InstanceIds=[name]) == unknown
    assert refused(ec2.terminate_instances, InstanceIds=[name]) == unknown
    assert found(ec2, {}) == set()
    assert aws.alive() == [name]

    aws.invisible = 0.1
    assert until(lambda: found(ec2, {})) == {name}
    assert described(ec2, name)["State"]["Name"] == "running"
    assert "StateReason" not in described(ec2, name)
    ec2.terminate_instances(InstanceIds=[name])


def test_an_instance_that_is_terminated_ends_for_that_reason(ec2: EC2Client, aws: AwsLab) -> None:
    """From running through shutting-down; nothing of it runs on, and once more is fine."""
    name = launched(ec2, aws)
    (pid,) = until(lambda: aws.instances[name].machine.pids())

    (row,) = ec2.terminate_instances(InstanceIds=[name])["TerminatingInstances"]

    assert row["PreviousState"] == {"Code": 16, "Name": "running"}
    assert row["CurrentState"]["Name"] in ("shutting-down", "terminated")
    code, message = left(ec2, name)
    assert code == "Client.UserInitiatedShutdown"
    assert message == f"{code}: User initiated shutdown"
    assert not alive(pid)
    (row,) = ec2.terminate_instances(InstanceIds=[name])["TerminatingInstances"]
    assert {row["PreviousState"]["Code"], row["CurrentState"]["Code"]} == {48}
    assert left(ec2, name) == (code, message)


def test_an_unknown_id_ends_none_of_a_request(ec2: EC2Client, aws: AwsLab) -> None:
    """Nor does a request without any."""
    name = launched(ec2, aws)
    ids = [name, "i-0123456789abcdef0"]
    assert refused(ec2.terminate_instances, InstanceIds=ids) == "InvalidInstanceID.NotFound"
    assert refused(ec2.describe_instances, InstanceIds=ids) == "InvalidInstanceID.NotFound"
    assert refused(ec2.terminate_instances, InstanceIds=[]) == "InvalidParameterCombination"
    assert described(ec2, name)["State"]["Name"] == "running"


def test_a_reclaim_without_notice_takes_the_instance_at_once(ec2: EC2Client, aws: AwsLab) -> None:
    """Notices come as well as they can; the reason is there in any case."""
    name = launched(ec2, aws)
    pids = until(lambda: aws.instances[name].machine.pids())
    aws.reclaim(name, None)
    code, message = left(ec2, name)
    assert code == "Server.SpotInstanceTermination"
    assert message.startswith(f"{code}: ")
    assert [pid for pid in pids if alive(pid)] == []


def test_a_reclaim_with_notice_is_told_inside_before_it_comes(ec2: EC2Client, aws: AwsLab) -> None:
    """By the metadata service, with the time at which it will come, and not before that."""
    late, soon = timedelta(seconds=1000), timedelta(seconds=0.5)
    name = launched(ec2, aws)
    before = datetime.now(UTC)
    aws.reclaim(name, late.total_seconds())
    told = json.loads(metadata(aws, name, "spot/instance-action"))
    at = datetime.fromisoformat(told["time"])
    assert told["action"] == "terminate"
    assert before + late - timedelta(seconds=1) <= at <= datetime.now(UTC) + late
    assert described(ec2, name)["State"]["Name"] == "running"

    other, before = launched(ec2, aws), datetime.now(UTC)
    aws.reclaim(other, soon.total_seconds())
    assert left(ec2, other)[0] == "Server.SpotInstanceTermination"
    assert datetime.now(UTC) - before >= soon
    assert described(ec2, name)["State"]["Name"] == "running"


@pytest.mark.parametrize(("behaviour", "state"), [("terminate", "terminated"), ("stop", "stopped")])
def test_a_shutdown_from_inside_ends_as_the_template_says(
    ec2: EC2Client, aws: AwsLab, behaviour: str, state: str
) -> None:
    """`stop` is the default, and leaves an instance that is to be ended by somebody."""
    data = aws.ec2.template["LaunchTemplateData"]
    if behaviour == "stop":
        del data["InstanceInitiatedShutdownBehavior"]
    aws.user_data = b"#!/bin/sh\nshutdown -h now\n"

    name = launched(ec2, aws)

    code, message = left(ec2, name, state)
    assert code == "Client.InstanceInitiatedShutdown"
    assert message == f"{code}: Instance initiated shutdown"
    assert aws.instances[name].machine.pids() == []
    ec2.terminate_instances(InstanceIds=[name])
    reason = "Client.UserInitiatedShutdown" if behaviour == "stop" else code
    assert left(ec2, name)[0] == reason


def test_states_are_entered_one_after_the_other(ec2: EC2Client, aws: AwsLab) -> None:
    """A shutdown that stops is `stopping` first; an end overtakes it, and is the last word."""
    made = aws.instances[launched(ec2, aws)]
    kill, seen = made.machine.kill, []

    def slow() -> None:
        seen.append(made.state)
        if made.state == "stopping":
            ec2.terminate_instances(InstanceIds=[made.id])
            until(lambda: made.state == "terminated")
        kill()

    made.machine.kill = slow  # type: ignore[method-assign]
    aws.ec2.end(made, SHUT_DOWN, "stopped")
    until(lambda: f"end {made.id}" not in {thread.name for thread in threading.enumerate()})
    assert seen == ["stopping", "shutting-down"]
    assert (made.state, made.reason) == ("terminated", ENDED)


def test_user_data_runs_in_a_folder_of_the_instances_own(ec2: EC2Client, aws: AwsLab) -> None:
    """With the metadata of its own."""
    aws.user_data = b'#!/bin/sh\necho "$SPOT_HOME" here; sleep 1000\n'
    names = [launched(ec2, aws) for _ in range(2)]
    for name in names:
        folder = aws.instances[name].machine.folder
        assert folder == (aws.folder / name).resolve()
        until(lambda path=folder / "console": read(path).endswith(b"here\n"))
        assert read(folder / "console").decode() == f"{folder}/home here\n"
        assert metadata(aws, name, "instance-id").decode() == name


def test_a_lab_that_has_ended_launches_nothing(aws: AwsLab) -> None:
    """A request that is under way must not leave a process behind."""
    request = asked(aws)
    aws.user_data = IDLE
    aws.ec2.answer("CreateFleet", request)
    (made,) = aws.instances.values()
    until(made.machine.pids)
    aws.close()
    assert made.machine.pids() == []
    with pytest.raises(Ec2Error, match="the lab has ended"):
        aws.ec2.answer("CreateFleet", request)


# Tags, filters and prices


def tagged(kind: str, **tags: str) -> dict[str, Any]:
    """Return what puts tags on a new resource."""
    rows = [{"Key": key, "Value": value} for key, value in tags.items()]
    return {"ResourceType": kind, "Tags": rows}


def test_an_instance_has_the_tags_that_were_asked_for_it(ec2: EC2Client, aws: AwsLab) -> None:
    """Those of the fleet are the fleet's; the metadata service shows them too."""
    both = [tagged("instance", Name="a b", launch="s3://x/y"), tagged("fleet", owner="me")]
    name = launched(ec2, aws, TagSpecifications=both)
    rows = {tag["Key"]: tag["Value"] for tag in described(ec2, name)["Tags"]}
    assert rows == {"Name": "a b", "launch": "s3://x/y"}
    assert metadata(aws, name, "tags/instance/launch") == b"s3://x/y"


def test_filters_choose_by_tags_and_states(ec2: EC2Client, aws: AwsLab) -> None:
    """All of the filters, any of their values; by case, * for any text and ? for a character."""
    one = launched(ec2, aws, TagSpecifications=[tagged("instance", Name="one", plan="x")])
    two = launched(ec2, aws, TagSpecifications=[tagged("instance", Name="two")])
    aws.reclaim(one, None)
    left(ec2, one)

    either, running = ["one", "two"], "instance-state-name"
    assert found(ec2, {}) == {one, two}
    assert found(ec2, {"tag:Name": ["one", "other"]}) == {one}
    assert found(ec2, {"tag:Name": either, running: ["running"]}) == {two}
    assert found(ec2, {running: ["pending", "terminated"]}) == {one}
    assert found(ec2, {"tag-key": ["plan"]}) == {one}
    assert found(ec2, {"tag:Name": ["ONE"]}) == set()
    assert found(ec2, {"tag:Name": ["t*"]}) == found(ec2, {"tag:Name": ["t?o"]}) == {two}
    assert found(ec2, {"tag:Name": ["."]}) == found(ec2, {"tag:Name": ["t?"]}) == set()
    with pytest.raises(ClientError, match=r"InvalidParameterValue.*no filter vpc-id"):
        found(ec2, {"vpc-id": ["vpc-1"]})


def test_a_filter_says_nothing_of_an_id_that_is_unknown(ec2: EC2Client, aws: AwsLab) -> None:
    """Ids are an error where they are unknown; what a filter leaves out is just not there."""
    name = launched(ec2, aws)
    stopped = [{"Name": "instance-state-name", "Values": ["stopped"]}]
    answer = ec2.describe_instances(InstanceIds=[name], Filters=stopped)  # type: ignore[arg-type]
    assert answer["Reservations"] == []


def test_spot_prices_are_those_of_each_type_and_zone(ec2: EC2Client, aws: AwsLab) -> None:
    """As text, for Linux, in force now; what a test sets is what is charged."""
    zones = list(aws.subnets.values())
    aws.prices({("c5.large", zones[0]): 0.0312})

    answer = ec2.describe_spot_price_history(
        InstanceTypes=["c5.large", "m5.large"],
        ProductDescriptions=["Linux/UNIX"],
        StartTime=datetime.now(UTC),
    )

    rows = {(r["InstanceType"], r["AvailabilityZone"]): r for r in answer["SpotPriceHistory"]}
    assert rows.keys() == {(kind, zone) for kind in ("c5.large", "m5.large") for zone in zones}
    assert rows["c5.large", zones[0]]["SpotPrice"] == "0.031200"
    assert rows["m5.large", zones[0]]["SpotPrice"] == "0.040000"
    now = rows["c5.large", zones[0]]["Timestamp"]
    assert abs(datetime.now(UTC) - now) < timedelta(minutes=1)
    windows = ec2.describe_spot_price_history(ProductDescriptions=["Windows"])
    assert windows["SpotPriceHistory"] == []
    made = aws.instances[launched(ec2, aws)]
    assert made.price == 0.0312
