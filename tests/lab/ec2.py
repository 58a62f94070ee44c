"""EC2 as the lab has it: capacity by pool, client tokens, instances that are processes, reclaims.

Launch templates, subnets and types are moto's; what is here each operation cites.
"""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

# vCPUs and MiB of the types that can be launched here, as EC2 has them.
TYPES = {
    "c5.large": (2, 4096),
    "m5.large": (2, 8192),
    "c6i.large": (2, 4096),
    "r5.large": (2, 16384),
    "c5.xlarge": (4, 8192),
    "t3.small": (2, 2048),
}
PRICE = 0.04  # USD an hour where a test says nothing
ON_DEMAND = 0.10
# API_StateReason.html in the EC2 API reference
SHUT_DOWN = ("Client.InstanceInitiatedShutdown", "Instance initiated shutdown")
ENDED = ("Client.UserInitiatedShutdown", "User initiated shutdown")
RECLAIMED = ("Server.SpotInstanceTermination", "Spot instance termination")


class Ec2Error(Exception):
    """An error of the API."""

    def __init__(self, code: str, message: str = "said the lab") -> None:
        super().__init__(code, message)
        self.code, self.message = code, message


class MachineLike(Protocol):
    """What runs an instance's user data."""

    on_shutdown: Callable[[], None] | None
    folder: Path

    def start(self) -> None: ...
    def kill(self) -> None: ...
    def notice(self, action: str, at: datetime) -> None: ...
    def pids(self) -> list[int]: ...
    def calls(self) -> list[list[str]]: ...


@dataclass
class LabInstance:
    """An instance; `state` as EC2 names it, `reason` is code and message of its StateReason."""

    id: str
    type: str
    subnet: str
    zone: str
    market: str
    tags: dict[str, str]
    machine: MachineLike
    price: float
    launched: float = field(default_factory=time.monotonic)
    state: str = "pending"
    reason: tuple[str, str] = ("", "")


class Ec2:
    """The operations that moto lacks or does otherwise; `make` makes the machine of an instance."""

    def __init__(
        self, subnets: Mapping[str, str], template: Mapping[str, Any], make: Callable[..., Any]
    ) -> None:
        self.subnets, self.template, self._make = dict(subnets), template, make
        self.full: dict[tuple[str, str, str], str | None] = {}  # (type, subnet, market)
        self.nowhere: dict[str, str] = {}  # market: error
        self.price: dict[tuple[str, str], float] = {}  # (type, zone)
        self.tagged: dict[str, str] = {}  # what tags are, whatever was asked for
        self.invisible = 0.3  # seconds until a launched instance is known everywhere
        self.instances: dict[str, LabInstance] = {}
        self._answered: dict[str, tuple[str, dict[str, Any]]] = {}
        self._lock = threading.RLock()

    def create_fleet(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Answer as API_CreateFleet.html says.

        The type's default is maintain, which answers before it launches. A client token answers
        the same again, and is an error with other parameters:
        devguide/ec2-api-idempotency.html.
        """
        config = asked["LaunchTemplateConfigs"][0]
        named = config["LaunchTemplateSpecification"].get("LaunchTemplateName")
        if named != self.template["LaunchTemplateName"]:
            raise Ec2Error("InvalidLaunchTemplateName.NotFoundException", f"no template {named}")
        if asked.get("DryRun"):
            raise Ec2Error("DryRunOperation", "Request would have succeeded, but DryRun is set.")
        token = asked.get("ClientToken") or secrets.token_hex(16)
        text = json.dumps(asked, sort_keys=True)
        with self._lock:
            if token in self._answered:
                return self._again(token, text)
            if asked.get("Type") != "instant":
                return {"FleetId": "fleet-lab"}
            found = self._launch(asked, config)
            self._answered[token] = (text, found)
            return found

    def describe_instances(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Answer as API_DescribeInstances.html says; devguide/eventual-consistency.html."""
        with self._lock:
            known = [
                i
                for i in self.instances.values()
                if time.monotonic() - i.launched >= self.invisible
            ]
            for wanted in asked.get("InstanceIds") or []:
                if wanted not in {i.id for i in known}:
                    raise Ec2Error("InvalidInstanceID.NotFound", f"no instance {wanted}")
            rows = [
                _described(i)
                for i in known
                if i.id in (asked.get("InstanceIds") or [i.id])
                and all(_passes(i, f) for f in asked.get("Filters") or [])
            ]
        return {"Reservations": [{"Instances": [row]} for row in rows]}

    def terminate_instances(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Answer as API_TerminateInstances.html says: an unknown id ends none of them."""
        for wanted in asked["InstanceIds"]:
            if wanted not in self.instances:
                raise Ec2Error("InvalidInstanceID.NotFound", f"no instance {wanted}")
        for wanted in asked["InstanceIds"]:
            self.end(self.instances[wanted], ENDED)
        return {"TerminatingInstances": []}

    def describe_spot_price_history(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Answer as API_DescribeSpotPriceHistory.html says: the present price of each zone."""
        now = datetime.now(UTC)
        return {
            "SpotPriceHistory": [
                {
                    "InstanceType": kind,
                    "AvailabilityZone": zone,
                    "SpotPrice": str(self.costs(kind, zone, "spot")),
                    "ProductDescription": "Linux/UNIX",
                    "Timestamp": now,
                }
                for kind in asked.get("InstanceTypes") or TYPES
                for zone in self.subnets.values()
            ]
        }

    def costs(self, kind: str, zone: str, market: str) -> float:
        """Return USD an hour."""
        return self.price.get((kind, zone), PRICE) if market == "spot" else ON_DEMAND

    def end(
        self, instance: LabInstance, reason: tuple[str, str], state: str = "terminated"
    ) -> None:
        """End an instance: its processes are killed, then its state says so."""
        with self._lock:
            if instance.state not in ("pending", "running"):
                return
            instance.state, instance.reason = "shutting-down", reason

        def kill() -> None:
            instance.machine.kill()
            instance.state = state

        thread = threading.Thread(target=kill, name=f"end {instance.id}")
        thread.start()

    def reclaim(self, instance: LabInstance, notice: float | None) -> None:
        """Take an instance back, `notice` seconds after it was told, or untold.

        UserGuide/spot-instance-termination-notices.html
        """
        if notice is None:
            self.end(instance, RECLAIMED)
            return
        instance.machine.notice("terminate", datetime.now(UTC) + timedelta(seconds=notice))
        self.reclaim_after(instance, notice)

    def reclaim_after(self, instance: LabInstance, notice: float) -> None:
        """Take an instance back after so many seconds, untold."""
        timer = threading.Timer(notice, self.end, [instance, RECLAIMED])
        timer.daemon = True
        timer.start()

    def _again(self, token: str, text: str) -> dict[str, Any]:
        before, answer = self._answered[token]
        if before != text:
            raise Ec2Error("IdempotentParameterMismatch", "the token was used for something else")
        ids = [name for group in answer["Instances"] for name in group["InstanceIds"]]
        if ids and all(self.instances[name].state == "terminated" for name in ids):
            raise Ec2Error("IdempotentInstanceTerminated", "the instance has ended")
        return answer

    def _launch(self, asked: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
        market = asked["TargetCapacitySpecification"].get("DefaultTargetCapacityType", "on-demand")
        errors: list[dict[str, Any]] = []
        room: list[tuple[float, int, str, str]] = []
        for override in config.get("Overrides") or [{}]:
            for kind in _types(override):
                for subnet in [override["SubnetId"]] if "SubnetId" in override else self.subnets:
                    if problem := self._problem(kind, subnet, market, override):
                        errors.append(_error(problem, {**override, "SubnetId": subnet}, kind))
                    else:
                        price = self.costs(kind, self.subnets[subnet], market)
                        room.append((price, len(room), kind, subnet))
        made = []
        if room:
            # The cheapest pool with room; lowest-price would take it too.
            _, _, kind, subnet = min(room)
            made.append(self._instance(asked, kind, subnet, market))
        return {"FleetId": f"fleet-{secrets.token_hex(8)}", "Errors": errors, "Instances": made}

    def _problem(self, kind: str, subnet: str, market: str, override: dict[str, Any]) -> str:
        if kind not in TYPES:
            return "InvalidInstanceType"
        if subnet not in self.subnets:
            return "InvalidSubnetID.NotFound"
        most = float(override.get("MaxPrice") or "inf")
        if market == "spot" and self.costs(kind, self.subnets[subnet], market) > most:
            return "SpotMaxPriceTooLow"
        error = self.full.get((kind, subnet, market), self.nowhere.get(market))
        return error or ""

    def _instance(
        self, asked: dict[str, Any], kind: str, subnet: str, market: str
    ) -> dict[str, Any]:
        tags = {
            tag["Key"]: tag["Value"]
            for row in asked.get("TagSpecifications") or []
            if row["ResourceType"] == "instance"
            for tag in row["Tags"]
        } | self.tagged
        zone = self.subnets[subnet]
        made = LabInstance(
            id=f"i-{secrets.token_hex(8)}0",
            type=kind,
            subnet=subnet,
            zone=zone,
            market=market,
            tags=tags,
            machine=None,  # type: ignore[arg-type] # made below, from this very instance
            price=self.costs(kind, zone, market),
        )
        made.machine = self._make(made)
        stops = self.template["LaunchTemplateData"].get("InstanceInitiatedShutdownBehavior")
        left = "terminated" if stops == "terminate" else "stopped"
        made.machine.on_shutdown = lambda: self.end(made, SHUT_DOWN, left)
        self.instances[made.id] = made
        made.machine.start()
        made.state = "running"
        used = {"InstanceType": kind, "SubnetId": subnet, "AvailabilityZone": zone}
        return {
            "LaunchTemplateAndOverrides": {"Overrides": used},
            "Lifecycle": market,
            "InstanceIds": [made.id],
            "InstanceType": kind,
        }


def _types(override: Mapping[str, Any]) -> list[str]:
    """Return the types of a pool: one, or all above its floors (API_InstanceRequirements.html)."""
    needed = override.get("InstanceRequirements")
    if needed is None:
        return [override.get("InstanceType", "m5.large")]
    return [
        kind
        for kind, (vcpus, memory) in TYPES.items()
        if vcpus >= needed["VCpuCount"]["Min"]
        and memory >= needed["MemoryMiB"]["Min"]
        and kind not in needed.get("ExcludedInstanceTypes", [])
    ]


def _error(code: str, override: dict[str, Any], kind: str) -> dict[str, Any]:
    used = {k: v for k, v in override.items() if k in ("SubnetId", "MaxPrice")}
    return {
        "LaunchTemplateAndOverrides": {"Overrides": {**used, "InstanceType": kind}},
        "Lifecycle": "spot",
        "ErrorCode": code,
        "ErrorMessage": f"{code}, said the lab",
    }


def _passes(instance: LabInstance, chosen: Mapping[str, Any]) -> bool:
    name, values = chosen["Name"], chosen["Values"]
    if name == "tag-key":
        return any(key in instance.tags for key in values)
    if name == "instance-state-name":
        return instance.state in values
    if name.startswith("tag:"):
        return instance.tags.get(name.removeprefix("tag:")) in values
    raise Ec2Error("InvalidParameterValue", f"the lab has no filter {name}")


def _described(made: LabInstance) -> dict[str, Any]:
    code, message = made.reason
    return {
        "InstanceId": made.id,
        "InstanceType": made.type,
        "SubnetId": made.subnet,
        "Placement": {"AvailabilityZone": made.zone},
        "State": {"Name": made.state},
        "StateReason": {"Code": code, "Message": message} if code else None,
        "InstanceLifecycle": "spot" if made.market == "spot" else None,
        "Tags": [{"Key": key, "Value": value} for key, value in made.tags.items()],
    }
