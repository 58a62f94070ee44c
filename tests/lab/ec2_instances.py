"""An instance of the lab's EC2, and how it is described; ec2.py cites the pages."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from tests.lab.ec2_requests import Ec2Error, like

STATES = {"pending": 0, "running": 16, "shutting-down": 32, "terminated": 48, "stopping": 64,
          "stopped": 80}  # fmt: skip
# The message begins with the code, as the API reference has it.
SHUT_DOWN = (
    "Client.InstanceInitiatedShutdown",
    "Client.InstanceInitiatedShutdown: Instance initiated shutdown",
)
ENDED = ("Client.UserInitiatedShutdown", "Client.UserInitiatedShutdown: User initiated shutdown")
RECLAIMED = (
    "Server.SpotInstanceTermination",
    "Server.SpotInstanceTermination: Spot instance termination",
)


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


def passes(instance: LabInstance, chosen: Mapping[str, Any]) -> bool:
    name = chosen["Name"]
    if name == "tag-key":
        found = list(instance.tags)
    elif name == "instance-state-name":
        found = [instance.state]
    elif name.startswith("tag:"):
        tag = instance.tags.get(name.removeprefix("tag:"))
        found = [] if tag is None else [tag]
    else:
        raise Ec2Error("InvalidParameterValue", f"the lab has no filter {name}")
    return any(like(text, value) for text in found for value in chosen["Values"])


def state_of(made: LabInstance) -> dict[str, Any]:
    return {"Code": STATES[made.state], "Name": made.state}


def described(made: LabInstance) -> dict[str, Any]:
    code, message = made.reason
    return {
        "InstanceId": made.id,
        "InstanceType": made.type,
        "SubnetId": made.subnet,
        "Placement": {"AvailabilityZone": made.zone},
        "State": state_of(made),
        "StateReason": {"Code": code, "Message": message} if code else None,
        "InstanceLifecycle": "spot" if made.market == "spot" else None,
        "Tags": [{"Key": key, "Value": value} for key, value in made.tags.items()],
    }
