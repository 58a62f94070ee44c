"""Independent validators pass the built definitions, and do not pass broken ones."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.lab.tools import node_tool, python_tools
from tests.machines import every_table, text_of


def validate(*command: str | Path) -> tuple[int, str]:
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, check=False, timeout=120
    )
    return done.returncode, done.stdout + done.stderr


@every_table
def test_statelint_passes_it(path: Path, tmp_path: Path) -> None:
    """An independent validator, which does not pass a definition that is wrong."""
    statelint = python_tools("ministack.txt") / "statelint"
    assert validate(statelint, path.with_name("step_function.json")) == (0, "")
    broken = tmp_path / "broken.json"
    broken.write_text(text_of(path).replace('"Next": "Complete"', '"Next": "Competed"'))
    assert "Competed" in validate(statelint, broken)[1]


@pytest.mark.slow
@every_table
def test_asl_validator_passes_it(path: Path, tmp_path: Path) -> None:
    """An independent validator, which does not pass a definition that is wrong."""
    program = node_tool("asl-validator@4.0.0", "asl-validator")
    code, says = validate(program, "--json-path", path.with_name("step_function.json"))
    assert (code, "is valid" in says) == (0, True), says
    broken = tmp_path / "broken.json"
    broken.write_text(text_of(path).replace('"Next": "Complete"', '"Next": "Competed"'))
    assert validate(program, "--json-path", broken)[0] != 0


@pytest.mark.slow
@every_table
def test_cfn_lint_passes_it(path: Path, tmp_path: Path) -> None:
    """As the definition of a resource in a template."""
    pytest.importorskip("cfnlint", reason="cfn-lint is not installed")
    resource: dict[str, Any] = {"Type": "AWS::StepFunctions::StateMachine", "Properties": {}}
    resource["Properties"]["RoleArn"] = "arn:aws:iam::123456789012:role/x"
    resource["Properties"]["Definition"] = json.loads(text_of(path))
    template = tmp_path / "template.json"
    template.write_text(json.dumps({"Resources": {"Machine": resource}}))
    program = Path(sys.executable).with_name("cfn-lint")
    assert validate(program, template) == (0, "")
    del resource["Properties"]["Definition"]["StartAt"]
    template.write_text(json.dumps({"Resources": {"Machine": resource}}))
    assert validate(program, template)[0] != 0
