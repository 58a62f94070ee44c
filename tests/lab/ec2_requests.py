"""What a request to EC2 may hold here, and what its overrides choose; ec2.py cites the pages."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

# vCPUs and MiB of the types that can be launched: docs.aws.amazon.com/ec2/latest/instancetypes/
TYPES = {
    "c5.large": (2, 4096),
    "m5.large": (2, 8192),
    "c6i.large": (2, 4096),
    "r5.large": (2, 16384),
    "c5.xlarge": (4, 8192),
    "t3.small": (2, 2048),
    "c7i.large": (2, 4096),
    "m6i.large": (2, 8192),
    "m7i.large": (2, 8192),
}
LEAST = 0.001  # USD an hour, of MaxPrice
USED = "LaunchTemplateConfigs.LaunchTemplateSpecification"
OVERRIDE = "LaunchTemplateConfigs.Overrides"
FLOORS = f"{OVERRIDE}.InstanceRequirements"
# The parameters of each operation; the name of a nested one is its path.
TAKES: dict[str, set[str]] = {
    "CreateFleet": {
        *("Type", "ClientToken", "DryRun"),
        *(f"{USED}.LaunchTemplateName", f"{USED}.LaunchTemplateId", f"{USED}.Version"),
        *(f"{OVERRIDE}.InstanceType", f"{OVERRIDE}.SubnetId", f"{OVERRIDE}.MaxPrice"),
        *(f"{FLOORS}.VCpuCount.Min", f"{FLOORS}.VCpuCount.Max"),
        *(f"{FLOORS}.MemoryMiB.Min", f"{FLOORS}.MemoryMiB.Max"),
        *(f"{FLOORS}.ExcludedInstanceTypes", f"{FLOORS}.AllowedInstanceTypes"),
        f"{FLOORS}.BurstablePerformance",
        *("SpotOptions.AllocationStrategy", "SpotOptions.InstanceInterruptionBehavior"),
        "TargetCapacitySpecification.TotalTargetCapacity",
        "TargetCapacitySpecification.DefaultTargetCapacityType",
        "TagSpecifications.ResourceType",
        *("TagSpecifications.Tags.Key", "TagSpecifications.Tags.Value"),
    },
    "DescribeInstances": {"InstanceIds", "Filters.Name", "Filters.Values"},
    "TerminateInstances": {"InstanceIds"},
    "DescribeSpotPriceHistory": {"InstanceTypes", "ProductDescriptions", "StartTime"},
}


class Ec2Error(Exception):
    """An error of the API."""

    def __init__(self, code: str, message: str = "said the lab") -> None:
        super().__init__(code, message)
        self.code, self.message = code, message


def names(values: Any, name: str = "") -> Iterator[str]:
    """Return the name of every value, such as Filters.Name."""
    if isinstance(values, Mapping):
        for key, value in values.items():
            yield from names(value, f"{name}.{key}".lstrip("."))
    elif isinstance(values, list):
        for row in values:
            yield from names(row, name)
    else:
        yield name


def check(override: Mapping[str, Any]) -> None:
    """Raise Ec2Error for an override that contradicts itself or says too little."""
    floors = override.get("InstanceRequirements")
    if ("InstanceType" in override) == (floors is not None):
        code = "MissingParameter" if floors is None else "InvalidParameterCombination"
        raise Ec2Error(code, "either a type or floors: the lab's template has no type")
    if floors and {"ExcludedInstanceTypes", "AllowedInstanceTypes"} <= floors.keys():
        raise Ec2Error("InvalidParameterCombination", "types are excluded or allowed, not both")
    if float(override.get("MaxPrice") or LEAST) < LEAST:
        raise Ec2Error("InvalidParameterValue", f"MaxPrice is below USD {LEAST}")
    if "," in override.get("SubnetId", ""):
        raise Ec2Error("InvalidParameterValue", "an instant fleet takes one subnet")


def types(override: Mapping[str, Any]) -> list[str]:
    """Return the types of a pool: one, or all that its floors leave."""
    needed = override.get("InstanceRequirements")
    if needed is None:
        return [override["InstanceType"]]
    burst = needed.get("BurstablePerformance", "excluded")
    found = []
    for kind, sizes in TYPES.items():
        ranges = (needed["VCpuCount"], needed["MemoryMiB"])
        fits = all(r["Min"] <= s <= r.get("Max", s) for r, s in zip(ranges, sizes, strict=True))
        out = any(like(kind, text) for text in needed.get("ExcludedInstanceTypes", []))
        allowed = any(like(kind, text) for text in needed.get("AllowedInstanceTypes", ["*"]))
        bursts = burst == "included" or kind.startswith("t") == (burst == "required")
        if fits and allowed and bursts and not out:
            found.append(kind)
    return found


def like(text: str, pattern: str) -> bool:
    """Return whether a text is like a pattern with * and ?."""
    shape = re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")
    return re.fullmatch(shape, text, re.DOTALL) is not None
