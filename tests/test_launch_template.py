"""The launch template that is deployed: its instances end by themselves and run bootstrap.sh."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from shim.spot_preflight import BOOTSTRAP
from tests.entry import ROOT

TEMPLATE = ROOT / "infrastructure" / "launch_template.yaml"


class Loader(yaml.SafeLoader):
    """YAML with CloudFormation's short forms, which are taken as they stand."""


def _short_form(loader: Any, suffix: str, node: Any) -> Any:
    if isinstance(node, yaml.ScalarNode):
        return loader.construct_scalar(node)
    return loader.construct_sequence(node, deep=True)


yaml.add_multi_constructor("!", _short_form, Loader)


@pytest.fixture
def resources() -> dict[str, Any]:
    """The resources of the template."""
    found: dict[str, Any] = yaml.load(TEMPLATE.read_text(), Loader)["Resources"]  # noqa: S506  a SafeLoader
    return found


def test_the_user_data_is_bootstrap_to_the_byte_and_fits(resources: dict[str, Any]) -> None:
    """EC2 takes 16 KB before encoding (UserGuide/user-data.html); `make readme` puts it there."""
    data = resources["LaunchTemplate"]["Properties"]["LaunchTemplateData"]
    assert data["UserData"]["Fn::Base64"] == BOOTSTRAP.read_text()
    assert len(BOOTSTRAP.read_bytes()) <= 16_000

    spec = importlib.util.spec_from_file_location("readme", ROOT / ".ci" / "readme.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    text = TEMPLATE.read_text()
    assert module.with_user_data(text, BOOTSTRAP.read_text()) == text
    assert module.with_user_data(text, "other\n") != text


def test_an_instance_of_it_ends_and_is_reached_by_nobody(resources: dict[str, Any]) -> None:
    """I06: shutdown terminates; IMDSv2 with tags; nothing comes in."""
    data = resources["LaunchTemplate"]["Properties"]["LaunchTemplateData"]
    assert data["InstanceInitiatedShutdownBehavior"] == "terminate"
    assert data["MetadataOptions"]["HttpTokens"] == "required"
    assert data["MetadataOptions"]["InstanceMetadataTags"] == "enabled"
    assert "SecurityGroupIngress" not in resources["NothingIn"]["Properties"]
    assert "KeyName" not in data


def test_every_call_of_the_launcher_is_in_its_policy(resources: dict[str, Any]) -> None:
    """What shim/ec2.py calls, and what CreateFleet needs beside."""
    statements = resources["LauncherPolicy"]["Properties"]["PolicyDocument"]["Statement"]
    allowed = {
        action
        for row in statements
        for action in ([row["Action"]] if isinstance(row["Action"], str) else row["Action"])
    }
    calls = {"CreateFleet", "DescribeInstances", "TerminateInstances", "DescribeSpotPriceHistory"}
    calls |= {"DescribeSubnets", "DescribeInstanceTypes", "DescribeLaunchTemplateVersions"}
    source = (ROOT / "shim" / "ec2.py").read_text()
    for call in calls:
        snake = "".join(f"_{c.lower()}" if c.isupper() else c for c in call).strip("_")
        assert f"ec2.{snake}(" in source or f'"{snake}"' in source
    assert {f"ec2:{call}" for call in calls} | {"ec2:RunInstances", "ec2:CreateTags"} <= allowed
    assert "iam:PassRole" in allowed


@pytest.mark.slow
def test_cfn_lint_passes_the_template() -> None:
    """A validator that is not ours."""
    program = Path(sys.executable).with_name("cfn-lint")
    done = subprocess.run([program, TEMPLATE], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
