"""EC2 as the launcher needs it: few calls, retried by botocore, with errors that say what to do."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from shim.errors import AccessError, PipelineError, PreflightError, ShimError, UsageError
from shim.launch import DEADLINE_TAG, TAG

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client

# In all; throttling (RequestLimitExceeded) is among what botocore tries again, with back-off:
# docs.aws.amazon.com/ec2/latest/devguide/ec2-api-throttling.html. A CreateFleet that is sent again
# carries the same client token, so it launches nothing twice.
LIMITS = {"connect_timeout": 5, "read_timeout": 30, "attempts": 8}
# docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html
RIGHTS = (
    *("UnauthorizedOperation", "AuthFailure", "AccessDenied", "Blocked", "OptInRequired"),
    *("InvalidClientTokenId", "ExpiredToken", "SignatureDoesNotMatch", "RequestExpired"),
    *("UnauthorizedException", "PendingVerification", "UnauthorizedSpotInstances"),
)
TABLE = (
    *("InvalidLaunchTemplate", "InvalidSubnet", "InvalidInstanceType", "InvalidAMI", "InvalidKey"),
    *("InvalidSecurityGroup", "InvalidGroup", "InvalidIamInstanceProfile", "InvalidParameter"),
    *("MissingParameter", "InvalidTag", "InvalidInput", "InvalidBlockDevice", "InvalidNetwork"),
    *("InvalidFleet", "InvalidInterruption", "InvalidAvailabilityZone", "InvalidUserData"),
)
LIVING = ("pending", "running", "stopping", "stopped")
GONE = ("terminated", "missing")
REGISTERED = 60.0  # seconds in which a launched instance must become visible
PAUSE = 2.0  # seconds between two questions


@dataclass(frozen=True)
class Instance:
    """An instance as EC2 describes it; `reason` is the code of its StateReason, or empty."""

    id: str
    state: str
    reason: str = ""
    message: str = ""
    type: str = ""
    zone: str = ""
    subnet: str = ""
    market: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def launch(self) -> str:
        """The address of its launch record."""
        return self.tags.get(TAG, "")

    @property
    def deadline(self) -> str:
        """When it must have ended, in RFC 3339."""
        return self.tags.get(DEADLINE_TAG, "")


class Ec2:
    """The calls, each with botocore's errors turned into ours."""

    def __init__(self) -> None:
        self._made: EC2Client | None = None

    @contextmanager
    def client(self) -> Iterator[EC2Client]:
        """Lend the client. Raises AccessError, PipelineError, PreflightError, UsageError."""
        from botocore import exceptions

        try:
            self._made = self._made or _client()
            yield self._made
        except exceptions.ClientError as error:
            raise refusal(error.response["Error"]) from error
        except exceptions.NoRegionError as error:
            raise AccessError("EC2: there is no region", "set AWS_REGION") from error
        except exceptions.NoCredentialsError as error:
            raise AccessError("EC2: there are no credentials", "see AWS_PROFILE") from error
        except (exceptions.BotoCoreError, ValueError) as error:
            raise PreflightError(
                f"EC2: {error}".rstrip("."), "see the network, AWS_REGION and AWS_ENDPOINT_URL"
            ) from error

    @property
    def region(self) -> str:
        """The region of the client."""
        with self.client() as ec2:
            return ec2.meta.region_name

    def create_fleet(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Ask for an instance and return EC2's answer."""
        with self.client() as ec2:
            return dict(ec2.create_fleet(**request))

    def may_create_fleet(self, request: Mapping[str, Any]) -> None:
        """Prove the rights without launching. Raises AccessError and what else is wrong."""
        from botocore.exceptions import ClientError

        with self.client() as ec2:
            try:
                ec2.create_fleet(**{**request, "DryRun": True})
            except ClientError as error:
                if error.response["Error"]["Code"] != "DryRunOperation":
                    raise

    def instance(self, instance: str) -> Instance:
        """Return what EC2 says of an instance; its state is `missing` where EC2 knows none.

        A launched instance can be unknown for a moment:
        docs.aws.amazon.com/ec2/latest/devguide/eventual-consistency.html
        """
        from botocore.exceptions import ClientError

        with self.client() as ec2:
            try:
                answer = ec2.describe_instances(InstanceIds=[instance])
            except ClientError as error:
                if error.response["Error"]["Code"] != "InvalidInstanceID.NotFound":
                    raise
                answer = {"Reservations": []}  # type: ignore[typeddict-item]
        found = [_instance(row) for group in answer["Reservations"] for row in group["Instances"]]
        return found[0] if found else Instance(instance, "missing")

    def launched(self, launch: str | None = None) -> list[Instance]:
        """Return the living instances of one launch, or of every launch of ours."""
        chosen = {"Name": f"tag:{TAG}", "Values": [launch]} if launch else None
        filters = [
            chosen or {"Name": "tag-key", "Values": [TAG]},
            {"Name": "instance-state-name", "Values": list(LIVING)},
        ]
        with self.client() as ec2:
            pages = ec2.get_paginator("describe_instances").paginate(Filters=filters)  # type: ignore[arg-type]
            return [
                _instance(row)
                for page in pages
                for group in page["Reservations"]
                for row in group["Instances"]
            ]

    def terminate(self, instances: Sequence[str], patience: float = 0.0) -> None:
        """Terminate instances; those that are gone are fine.

        One that is unknown may have been launched a moment ago, and runs on: it is tried again for
        `patience` seconds (docs.aws.amazon.com/ec2/latest/devguide/eventual-consistency.html).
        """
        until = time.monotonic() + patience
        for instance in instances:  # one by one: an unknown id fails a whole request
            while not self._terminated(instance) and time.monotonic() < until:
                time.sleep(PAUSE)

    def _terminated(self, instance: str) -> bool:
        """Ask for the end of an instance; return False if EC2 knows none."""
        from botocore.exceptions import ClientError

        with self.client() as ec2:
            try:
                ec2.terminate_instances(InstanceIds=[instance])
            except ClientError as error:
                if error.response["Error"]["Code"] != "InvalidInstanceID.NotFound":
                    raise
                return False
        return True

    def wait_until_gone(
        self, instance: str, patience: float, wait: Callable[[float], None]
    ) -> bool:
        """Return whether an instance is terminated within `patience` seconds."""
        deadline = time.monotonic() + patience
        while self.instance(instance).state not in GONE:
            if time.monotonic() > deadline:
                return False
            wait(PAUSE)
        return True

    def spot_prices(self, types: Sequence[str], now: datetime) -> dict[tuple[str, str], float]:
        """Return the present price in USD an hour by type and zone, for Linux."""
        with self.client() as ec2:
            pages = ec2.get_paginator("describe_spot_price_history").paginate(
                InstanceTypes=list(types),  # type: ignore[arg-type]
                ProductDescriptions=["Linux/UNIX"],
                StartTime=now,
            )
            return {
                (str(row["InstanceType"]), row["AvailabilityZone"]): float(row["SpotPrice"])
                for page in pages
                for row in page["SpotPriceHistory"]
            }

    def zones(self, subnets: Sequence[str]) -> dict[str, str]:
        """Return the zone of each subnet."""
        with self.client() as ec2:
            answer = ec2.describe_subnets(SubnetIds=list(subnets))
        return {row["SubnetId"]: row["AvailabilityZone"] for row in answer["Subnets"]}

    def sizes(self, types: Sequence[str]) -> dict[str, tuple[int, int]]:
        """Return the vCPUs and the MiB of memory of each type."""
        with self.client() as ec2:
            pages = ec2.get_paginator("describe_instance_types").paginate(
                InstanceTypes=list(types)  # type: ignore[arg-type]
            )
            return {
                str(row["InstanceType"]): (
                    row["VCpuInfo"]["DefaultVCpus"],
                    row["MemoryInfo"]["SizeInMiB"],
                )
                for page in pages
                for row in page["InstanceTypes"]
            }

    def template(self, chosen: Mapping[str, str]) -> Mapping[str, Any]:
        """Return the data of a launch template's version."""
        names = {k: v for k, v in chosen.items() if k != "Version"}
        with self.client() as ec2:
            answer = ec2.describe_launch_template_versions(
                **names,  # type: ignore[arg-type]
                Versions=[chosen["Version"]],
            )
        return answer["LaunchTemplateVersions"][0]["LaunchTemplateData"]


def refusal(error: Mapping[str, Any]) -> ShimError:
    """Return our error for one of EC2's, as in a response or in a fleet's list."""
    code = str(error.get("Code") or error.get("ErrorCode") or "unknown")
    said = str(error.get("Message") or error.get("ErrorMessage") or "no reason given").rstrip(".")
    text = f"EC2: {code}: {said}"
    if code.startswith(RIGHTS):
        return AccessError(text, "see the rights of the launcher in the README")
    if code.startswith(TABLE):
        return PipelineError(text, "see [spot] in the table and the launch template that it names")
    return PreflightError(text, "try again; if it stays, see health.aws.amazon.com")


def _client() -> EC2Client:
    import boto3
    from botocore.config import Config

    config = Config(
        connect_timeout=LIMITS["connect_timeout"],
        read_timeout=LIMITS["read_timeout"],
        retries={"mode": "standard", "total_max_attempts": LIMITS["attempts"]},
    )
    try:
        return boto3.session.Session().client("ec2", config=config)
    except ValueError as error:
        raise UsageError(
            f"EC2: {error}", "see AWS_ENDPOINT_URL; it looks like https://host"
        ) from error


def _instance(row: Mapping[str, Any]) -> Instance:
    reason = row.get("StateReason") or {}
    return Instance(
        id=row["InstanceId"],
        state=row["State"]["Name"],
        reason=reason.get("Code", ""),
        message=reason.get("Message", ""),
        type=row.get("InstanceType", ""),
        zone=(row.get("Placement") or {}).get("AvailabilityZone", ""),
        subnet=row.get("SubnetId", ""),
        market="spot" if row.get("InstanceLifecycle") == "spot" else "on-demand",
        tags={tag["Key"]: tag["Value"] for tag in row.get("Tags") or []},
    )
