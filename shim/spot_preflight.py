"""What can be known to be wrong before an instance is paid for."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from shim import bundle, fleet, preflight, reap
from shim.bundle import Bundle
from shim.ec2 import Ec2
from shim.errors import AccessError, PipelineError, PreflightError, ShimError
from shim.fleet import Pool
from shim.plan import Plan
from shim.reap import Left
from shim.spot_table import Spot
from shim.store import open_store

ROOT = Path(__file__).resolve().parent.parent
BOOTSTRAP = ROOT / "infrastructure" / "bootstrap.sh"
LONGEST_TAG = 256  # characters: Using_Tags.html in the EC2 user guide


@dataclass(frozen=True)
class Price:
    """What a pool costs now in USD an hour; None where EC2 tells no price."""

    pool: Pool
    zone: str
    price: float | None


@dataclass(frozen=True)
class Checked:
    """What preflight found: problems, in words for a person, or all that a launch begins with."""

    problems: list[ShimError]
    code: Bundle | None = None
    left: tuple[Left, ...] = ()


def check(plan: Plan, ec2: Ec2) -> Checked:
    """Look for every problem and bundle the code.

    Raises BusyError if another launch is at work at the planned stages and the date.
    """
    problems = preflight.check(plan)
    code = None
    if any(problem.code == AccessError.code for problem in problems):
        return Checked(problems)
    try:
        code = bundle.make(
            ROOT, Path(plan.root), plan.code_version, plan.allow_dirty, plan.allow_files
        )
    except ShimError as error:
        problems.append(error)
    try:
        problems += _floors(_spot(plan), ec2)
        problems += _template(_spot(plan), ec2)
        ec2.may_create_fleet(_trial(_spot(plan)))
    except ShimError as error:
        problems.append(error)
    if problems:
        return Checked(problems)
    return Checked([], code, reap.left(open_store(plan.store), ec2, plan))


def prices(plan: Plan, ec2: Ec2, now: datetime) -> list[Price]:
    """Return each pool's present price, the cheapest first; zones stand for unnamed subnets."""
    spot = _spot(plan)
    if not spot.types:
        return []
    found = ec2.spot_prices(spot.types, now)
    if not spot.subnets:
        rows = [Price(Pool(t, ""), zone, price) for (t, zone), price in found.items()]
    else:
        zones = ec2.zones(spot.subnets)
        rows = [
            Price(pool, zones[pool.subnet], found.get((pool.type, zones[pool.subnet])))
            for pool in fleet.pools(spot)
        ]
    return sorted(rows, key=lambda row: (row.price is None, row.price or 0.0, str(row.pool)))


def _spot(plan: Plan) -> Spot:
    if plan.spot is None:
        raise PipelineError(f"{plan.pipeline}: the plan has no [spot]", "plan with --on spot")
    return plan.spot


def _trial(spot: Spot) -> dict[str, object]:
    tags = {"Name": "spot-backtest"}
    return fleet.request(spot, fleet.pools(spot), "spot", tags, "dry-run")


def _floors(spot: Spot, ec2: Ec2) -> Iterator[ShimError]:
    """Check named types against the floors, so that no rotation meets a type that is too small."""
    if not spot.types or not (spot.vcpus or spot.memory):
        return
    for name, (vcpus, memory) in ec2.sizes(spot.types).items():
        if vcpus < spot.vcpus or memory < spot.memory:
            yield PipelineError(
                f"the type {name} has {vcpus} vCPUs and {memory} MiB, and [spot] asks for "
                f"{spot.vcpus} and {spot.memory} at least",
                "remove it from types, or lower the floors",
            )


def _template(spot: Spot, ec2: Ec2) -> Iterator[ShimError]:
    """Check what makes an instance of the template end by itself and find its work."""
    data = ec2.template(fleet.template(spot))
    name = f"the launch template {spot.launch_template}"
    options = data.get("MetadataOptions") or {}
    wanted = {
        "InstanceInitiatedShutdownBehavior=terminate": data.get("InstanceInitiatedShutdownBehavior")
        == "terminate",  # the default is stop, which leaves a volume that costs
        "MetadataOptions.HttpTokens=required": options.get("HttpTokens") == "required",
        "MetadataOptions.InstanceMetadataTags=enabled": options.get("InstanceMetadataTags")
        == "enabled",
        "IamInstanceProfile": bool(data.get("IamInstanceProfile")),
        "UserData=infrastructure/bootstrap.sh": _is_bootstrap(data.get("UserData", "")),
    }
    for setting, right in wanted.items():
        if not right:
            yield PreflightError(
                f"{name} lacks {setting}", "deploy infrastructure/launch_template.yaml again"
            )


def _is_bootstrap(user_data: str) -> bool:
    try:
        return base64.b64decode(user_data) == BOOTSTRAP.read_bytes()
    except (OSError, ValueError):
        return False
