"""One CreateFleet request for all pools, and what its answer means.

`instant` answers once, with an error for each pool that could not be used; the type's default is
`maintain` and the strategy's `lowest-price`, so both are set:
docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateFleet.html
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shim.ec2 import refusal
from shim.errors import BusyError, PreflightError
from shim.spot_table import Spot

# What another pool, or a later try, may cure; everything else is wrong in the request or the
# account: docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html
CAPACITY = {
    *("InsufficientInstanceCapacity", "InsufficientCapacity", "UnfulfillableCapacity"),
    *("MaxSpotInstanceCountExceeded", "SpotMaxPriceTooLow", "InsufficientFreeAddressesInSubnet"),
    *("VcpuLimitExceeded", "InstanceLimitExceeded", "Unsupported", "InsufficientHostCapacity"),
    *("InsufficientReservedInstanceCapacity", "InsufficientAddressCapacity", "InternalError"),
    *("RequestLimitExceeded", "UnsupportedOperation", "ServiceUnavailable"),
}


@dataclass(frozen=True)
class Pool:
    """A type in a subnet. The type is empty where floors choose it, the subnet where EC2 does."""

    type: str
    subnet: str

    def __str__(self) -> str:
        return f"{self.type or 'any type'} in {self.subnet or 'any subnet'}"


@dataclass(frozen=True)
class Launched:
    """An instance that EC2 has promised."""

    instance: str
    type: str
    subnet: str
    zone: str
    market: str


class NoCapacityError(BusyError):
    """No pool has room; `refused` says why, pool by pool."""

    def __init__(self, refused: Mapping[str, str]) -> None:
        reasons = "; ".join(f"{pool}: {code}" for pool, code in refused.items())
        super().__init__(f"no pool has capacity ({reasons})", "run the same command later")
        self.refused = refused


def pools(spot: Spot) -> list[Pool]:
    """Return every type in every subnet."""
    return [Pool(t, subnet) for t in spot.types or ("",) for subnet in spot.subnets or ("",)]


def token(execution: str, stages: Iterable[str], launch: str, asked: Sequence[Pool]) -> str:
    """Return the client token of one request: 64 ASCII characters, the most that EC2 takes.

    docs.aws.amazon.com/ec2/latest/devguide/ec2-api-idempotency.html
    """
    text = json.dumps([execution, *stages, launch, *[[p.type, p.subnet] for p in asked]])
    return hashlib.sha256(text.encode()).hexdigest()


def template(spot: Spot) -> dict[str, str]:
    """Return the launch template's specification."""
    name = spot.launch_template
    key = "LaunchTemplateId" if name.startswith("lt-") else "LaunchTemplateName"
    return {key: name, "Version": spot.version}


def request(
    spot: Spot,
    asked: Sequence[Pool],
    market: str,
    tags: Mapping[str, str],
    client_token: str,
    excluded: Sequence[Pool] = (),
) -> dict[str, Any]:
    """Return the request for one instance of `market` (`spot` or `on-demand`) in any of the pools.

    `excluded` are pools, with types, that may not be used where floors choose the type.
    """
    overrides = [_override(spot, pool, market, excluded) for pool in asked]
    chosen = [{"Key": key, "Value": value} for key, value in tags.items()]
    return {
        "Type": "instant",
        "ClientToken": client_token,
        "LaunchTemplateConfigs": [
            {"LaunchTemplateSpecification": template(spot), "Overrides": overrides}
        ],
        "TargetCapacitySpecification": {
            "TotalTargetCapacity": 1,
            "DefaultTargetCapacityType": market,
        },
        "SpotOptions": {
            "AllocationStrategy": "price-capacity-optimized",
            "InstanceInterruptionBehavior": "terminate",
        },
        "TagSpecifications": [{"ResourceType": "instance", "Tags": chosen}],
    }


def answer(response: Mapping[str, Any]) -> Launched:
    """Return the instance in an answer.

    Raises NoCapacityError if no pool had room, AccessError, PipelineError or PreflightError for
    what is wrong otherwise; an answer without instance and without errors is a failure too.
    """
    for group in response.get("Instances") or []:
        for instance in group.get("InstanceIds") or []:
            used = (group.get("LaunchTemplateAndOverrides") or {}).get("Overrides") or {}
            return Launched(
                instance=instance,
                type=group.get("InstanceType") or used.get("InstanceType", ""),
                subnet=used.get("SubnetId", ""),
                zone=used.get("AvailabilityZone", ""),
                market=group.get("Lifecycle", "spot"),
            )
    errors = response.get("Errors") or []
    for error in errors:
        if error["ErrorCode"] not in CAPACITY:
            raise refusal(error)
    if not errors:
        raise PreflightError(
            f"EC2 answered with no instance and no error (fleet {response.get('FleetId')})",
            "try again; if it stays, see health.aws.amazon.com",
        )
    raise NoCapacityError({_pool(error): error["ErrorCode"] for error in errors})


def _override(spot: Spot, pool: Pool, market: str, excluded: Sequence[Pool]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    if pool.type:
        made["InstanceType"] = pool.type
    else:
        needed: dict[str, Any] = {
            "VCpuCount": {"Min": spot.vcpus},
            "MemoryMiB": {"Min": spot.memory},
        }
        types = sorted({p.type for p in excluded if p.subnet == pool.subnet})
        made["InstanceRequirements"] = {
            **needed,
            **({"ExcludedInstanceTypes": types} if types else {}),
        }
    if pool.subnet:
        made["SubnetId"] = pool.subnet
    if spot.max_price and market == "spot":
        made["MaxPrice"] = spot.max_price
    return made


def _pool(error: Mapping[str, Any]) -> str:
    used = (error.get("LaunchTemplateAndOverrides") or {}).get("Overrides") or {}
    where = used.get("SubnetId") or used.get("AvailabilityZone") or "any subnet"
    return f"{used.get('InstanceType') or 'any type'} in {where}"
