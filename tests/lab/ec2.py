"""EC2 as the lab has it: capacity by pool, client tokens, instances that are processes, reclaims.

Launch templates, subnets and types are moto's. Each behaviour here is AWS's, from
docs.aws.amazon.com/AWSEC2/latest/APIReference/:
fleets: instant or not, their errors, DryRun   API_CreateFleet.html
a template by name or id, and its version      API_FleetLaunchTemplateSpecificationRequest.html
a type or floors, one subnet, MaxPrice         API_FleetLaunchTemplateOverridesRequest.html
floors, and the types beside them              API_InstanceRequirementsRequest.html
the cheapest pool with room                    API_SpotOptionsRequest.html
describing, filters                            API_DescribeInstances.html, API_Filter.html
states and their codes, why one was left       API_InstanceState.html, API_StateReason.html
ending: all or none, and again                 API_TerminateInstances.html
prices                                         API_DescribeSpotPriceHistory.html
codes of errors                                errors-overview.html
docs.aws.amazon.com/ec2/latest/devguide/:
client tokens                                  ec2-api-idempotency.html
unknown for a moment                           eventual-consistency.html
docs.aws.amazon.com/AWSEC2/latest/UserGuide/:
from state to state                            ec2-instance-lifecycle.html
a shutdown from inside                         Using_ChangingInstanceInitiatedShutdownBehavior.html
a reclaim, with and without notice             spot-instance-termination-notices.html
wildcards in filters                           Using_Filtering.html
What the lab has not is refused, so that nothing passes here that was not meant.
"""

from __future__ import annotations

import json
import re
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.lab.ec2_instances import (
    ENDED,
    RECLAIMED,
    SHUT_DOWN,
    LabInstance,
    described,
    passes,
    state_of,
)
from tests.lab.ec2_requests import TAKES, TYPES, Ec2Error, check, names, types

PRICE = 0.04  # USD an hour where a test says nothing
ON_DEMAND = 0.10
LINUX = "Linux/UNIX"
LONGEST_TOKEN = 64  # ASCII characters
NOT_FOUND = {
    "LaunchTemplateName": "InvalidLaunchTemplateName.NotFoundException",
    "LaunchTemplateId": "InvalidLaunchTemplateId.NotFound",
}


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
        self._closed = False
        self._lock = threading.RLock()

    def answer(self, operation: str, asked: dict[str, Any]) -> dict[str, Any]:
        """Answer an operation that is in TAKES. Raises Ec2Error."""
        for name in names(asked):
            if name not in TAKES[operation]:
                raise Ec2Error("UnknownParameter", f"the lab has no {name}")
        method = re.sub(r"(?<!^)([A-Z])", r"_\1", operation).lower()
        found: dict[str, Any] = getattr(self, method)(asked)
        return found

    def create_fleet(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Launch one instance, if the type is instant; any other answers before it launches.

        A client token answers the same again, and is an error with other parameters.
        """
        config = self._config(asked)
        token = asked.get("ClientToken") or secrets.token_hex(16)
        if len(token) > LONGEST_TOKEN or not token.isascii():
            raise Ec2Error("InvalidParameterValue", "a client token has 64 ASCII characters")
        if asked.get("DryRun"):
            raise Ec2Error("DryRunOperation", "Request would have succeeded, but DryRun is set.")
        text = json.dumps(asked, sort_keys=True)
        with self._lock:
            if self._closed:
                raise Ec2Error("Unavailable", "the lab has ended")
            if token in self._answered:
                return self._again(token, text)
            if asked.get("Type") != "instant":
                return {"FleetId": "fleet-lab"}
            found = self._launch(asked, config)
            self._answered[token] = (text, found)
            return found

    def describe_instances(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Describe what is known by now; a filter's values are joined by or, filters by and."""
        with self._lock:
            ids, filters = asked.get("InstanceIds"), asked.get("Filters") or []
            chosen = self._named(ids) if ids else list(self._known().values())
            rows = [described(i) for i in chosen if all(passes(i, f) for f in filters)]
        return {"Reservations": [{"Instances": [row]} for row in rows]}

    def terminate_instances(self, asked: dict[str, Any]) -> dict[str, Any]:
        """End instances, or none of them where one is unknown; one that has ended is fine.

        An instance that was just launched may be unknown here too, and runs on.
        """
        if not asked.get("InstanceIds"):
            raise Ec2Error("InvalidParameterCombination", "No instances specified")
        rows = []
        with self._lock:
            for made in self._named(asked["InstanceIds"]):
                before = state_of(made)
                self.end(made, ENDED)
                rows.append(
                    {"InstanceId": made.id, "PreviousState": before, "CurrentState": state_of(made)}
                )
        return {"TerminatingInstances": rows}

    def describe_spot_price_history(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Give the present price of each type in each zone, which has changed just now."""
        now = datetime.now(UTC)
        return {
            "SpotPriceHistory": [
                {
                    "InstanceType": kind,
                    "AvailabilityZone": zone,
                    "SpotPrice": f"{self.costs(kind, zone, 'spot'):.6f}",
                    "ProductDescription": LINUX,
                    "Timestamp": now,
                }
                for kind in asked.get("InstanceTypes") or TYPES
                for zone in self.subnets.values()
                if LINUX in asked.get("ProductDescriptions", [LINUX])
            ]
        }

    def costs(self, kind: str, zone: str, market: str) -> float:
        """Return USD an hour."""
        return self.price.get((kind, zone), PRICE) if market == "spot" else ON_DEMAND

    def end(
        self, instance: LabInstance, reason: tuple[str, str], state: str = "terminated"
    ) -> None:
        """End an instance: its processes are killed, then its state says so."""
        on_the_way = "stopping" if state == "stopped" else "shutting-down"
        with self._lock:
            stopped = instance.state in ("stopping", "stopped") and state == "terminated"
            if instance.state not in ("pending", "running") and not stopped:
                return
            instance.state, instance.reason = on_the_way, reason

        def kill() -> None:
            instance.machine.kill()
            with self._lock:
                if instance.state == on_the_way:
                    instance.state = state

        thread = threading.Thread(target=kill, name=f"end {instance.id}")
        thread.start()

    def reclaim(self, instance: LabInstance, notice: float | None) -> None:
        """Take an instance back, `notice` seconds after it was told, or untold."""
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

    def close(self) -> None:
        """Launch nothing any more, and cut every instance's power."""
        with self._lock:
            self._closed = True
            left = list(self.instances.values())
        for instance in left:
            instance.machine.kill()

    def _known(self) -> dict[str, LabInstance]:
        now = time.monotonic()
        return {i.id: i for i in self.instances.values() if now - i.launched >= self.invisible}

    def _named(self, ids: list[str]) -> list[LabInstance]:
        known = self._known()
        for wanted in ids:
            if wanted not in known:
                raise Ec2Error("InvalidInstanceID.NotFound", f"no instance {wanted}")
        return [known[wanted] for wanted in dict.fromkeys(ids)]

    def _config(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Return the launch template's configuration. Raises Ec2Error for what is wrong with it."""
        configs = asked.get("LaunchTemplateConfigs") or []
        if len(configs) != 1 or asked["TargetCapacitySpecification"]["TotalTargetCapacity"] != 1:
            raise Ec2Error("UnsupportedOperation", "the lab launches one instance of one template")
        config: dict[str, Any] = configs[0]
        used = config.get("LaunchTemplateSpecification", {})
        named = {key: used[key] for key in NOT_FOUND if key in used}
        if len(named) != 1:
            raise Ec2Error("InvalidParameterCombination", "a template has a name or an id")
        for key, value in named.items():
            if value != self.template.get(key):
                raise Ec2Error(NOT_FOUND[key], f"no template {value}")
        if "Version" not in used:
            raise Ec2Error("MissingParameter", "a launch template's version must be given")
        if used["Version"] not in ("$Default", "$Latest", "1"):
            raise Ec2Error("InvalidLaunchTemplateId.VersionNotFound", f"no {used['Version']}")
        for override in config.get("Overrides") or [{}]:
            check(override)
        return config

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
        for override in config["Overrides"]:
            for kind in types(override):
                for subnet in [override["SubnetId"]] if "SubnetId" in override else self.subnets:
                    if problem := self._problem(kind, subnet, market, override):
                        pool = {**override, "SubnetId": subnet, "InstanceType": kind}
                        errors.append(_error(problem, pool, market))
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


def _error(code: str, pool: dict[str, Any], market: str) -> dict[str, Any]:
    used = {k: v for k, v in pool.items() if k in ("InstanceType", "SubnetId", "MaxPrice")}
    return {
        "LaunchTemplateAndOverrides": {"Overrides": used},
        "Lifecycle": market,
        "ErrorCode": code,
        "ErrorMessage": f"{code}, said the lab",
    }
