"""All that those outside can know of a case: the store's versions, EC2's answers, logs, codes.

Nothing of the shim is used: plain boto3, and the files that the stage wrote beside the store.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Version:
    """What a key held once."""

    key: str
    body: bytes


@dataclass(frozen=True)
class Line:
    """A line that a stage wrote: when by the wall clock, by which try at which stage, and what."""

    at: float
    tag: str
    text: str

    @property
    def stage(self) -> str:
        """The stage that wrote it."""
        return self.tag.partition("-")[0]


@dataclass(frozen=True)
class Access:
    """A line of the access log, in the order of effects."""

    at: float
    caller: str
    operation: str
    key: str
    outcome: str


@dataclass
class Evidence:
    """A case, seen from outside. `launchers` has code, out, err and at of each, in their order."""

    fault: str
    side: str
    reached: bool
    sprung: float
    date: str
    execution: str
    prefix: str  # of the store in its bucket, with a slash
    launchers: Sequence[Mapping[str, Any]]
    left_alive: Sequence[str] = ()
    orphans: Sequence[str] = ()
    versions: dict[str, list[bytes]] = field(default_factory=dict)  # by key, the oldest first
    objects: dict[str, bytes] = field(default_factory=dict)  # that are there
    instances: list[dict[str, Any]] = field(default_factory=list)  # as EC2 describes them
    orders: dict[str, list[list[str]]] = field(default_factory=dict)  # calls of shutdown and so on
    lives: dict[str, tuple[float, float]] = field(default_factory=dict)  # of instances, wall clock
    access: list[Access] = field(default_factory=list)
    truth: list[Line] = field(default_factory=list)
    touched: list[str] = field(default_factory=list)  # files that nobody should have made


def gather(
    seen: Evidence, clients: tuple[Any, Any], bucket: str, folder: Path, rows: Sequence[Any]
) -> Evidence:
    """Fill in what S3 and EC2 say, what the stages wrote, and what the access log has."""
    s3, ec2 = clients
    for page in s3.get_paginator("list_object_versions").paginate(Bucket=bucket):
        for row in reversed(page.get("Versions", [])):
            key = row["Key"].removeprefix(seen.prefix)
            body = s3.get_object(Bucket=bucket, Key=row["Key"], VersionId=row["VersionId"])
            text = body["Body"].read()
            seen.versions.setdefault(key, []).append(text)
            if row["IsLatest"]:
                seen.objects[key] = text
    for group in ec2.describe_instances()["Reservations"]:
        for made in group["Instances"]:
            tags = {tag["Key"]: tag["Value"] for tag in made["Tags"]}
            reason = (made.get("StateReason") or {}).get("Code", "")
            about = {"state": made["State"]["Name"], "reason": reason, "tags": tags}
            seen.instances.append({"id": made["InstanceId"], **about})
    seen.truth = [_line(text) for text in (folder / "truth").read_text().splitlines()]
    seen.access = [
        Access(r.at, r.caller, r.operation, r.key.removeprefix(seen.prefix), r.outcome)
        for r in rows
    ]
    seen.touched = [str(path.relative_to(folder)) for path in folder.rglob("pwned*")]
    return seen


def parsed(body: bytes) -> dict[str, Any]:
    """Return a JSON object, empty for what is none."""
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _line(text: str) -> Line:
    at, tag, said = text.split(" ", 2)
    return Line(float(at), tag, said)
