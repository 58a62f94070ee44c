"""A launch while the store, EC2 or both do not answer."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from shim import follow
from tests.lab.aws import AwsLab
from tests.launches import Spot


@pytest.mark.slow
@pytest.mark.parametrize("service", ["s3", "ec2", "*"])
def test_an_outage_in_the_middle_of_a_stage_is_survived_by_both_sides(
    aws: AwsLab, tool: Path, tmp_path: Path, service: str
) -> None:
    """Nothing answers from the stage's start until after its end; then all is as without it."""
    spot = Spot(aws, tool, tmp_path / "spot")
    begun = tmp_path / "begun"
    spot.table.stage("a", f'touch {begun}; sleep 2; echo a > "$ARTIFACTS_DIR/a.txt"')
    launcher = spot.start()
    spot.until(launcher, begun.exists)
    aws.fault(service, "*", "outage:4")

    done = spot.end(launcher)

    assert done.code == 0, done.err + spot.console()
    assert spot.table.commit("a") is not None
    assert [record["outcome"] for record in spot.records()] == ["committed"]
    assert len(aws.instances) == 1
    assert aws.alive() == []


def test_the_patience_of_both_sides_is_longer_than_ten_minutes() -> None:
    """The follower's, and that of the instance which closes its record."""
    guest = Path(follow.__file__).with_name("guest.py").read_text()
    closing = re.search(r"^CLOSING = ([0-9.]+)", guest, re.MULTILINE)
    assert closing
    assert min(follow.OUTAGE, float(closing[1])) > 600
