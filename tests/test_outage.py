"""Commands by hand while the store is away, in each of the forms of tests/lab/outage.py."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from shim.errors import PreflightError
from shim.store import open_store
from tests.children import PATIENCE, until
from tests.entry import ENTRY, spot_backtest
from tests.lab import S3Lab
from tests.lab.aws import AwsLab
from tests.lab.outage import FORMS
from tests.lab.patches import patches
from tests.stages import DATE, Table

LONG = 600.0  # seconds; until a test lets the store come back
each_form = pytest.mark.parametrize("form", FORMS)


def surroundings(aws: AwsLab, folder: Path, form: str) -> dict[str, str]:
    """Return the environment of a command that is to meet a form of outage."""
    changes = aws.store_address().changes(form)
    return {"SPOT_BACKTEST_PYTHON": sys.executable, **aws.env, **patches(folder, changes)}


@pytest.mark.slow
@each_form
def test_a_captured_command_keeps_its_status_and_its_log_while_the_store_is_away(
    aws: AwsLab, tmp_path: Path, form: str
) -> None:
    """I51: the store goes away before the command starts, and comes back after it has ended."""
    env = {"PATH": os.environ["PATH"], **surroundings(aws, tmp_path / "changes", form)}
    words = ["--slug", "a", "--log", "a.log", "--store", f"s3://{aws.bucket}", "--date", DATE]
    command = ["sh", "-c", "echo out; touch ended; exit 3"]
    aws.outage(form, LONG)
    with subprocess.Popen(
        [ENTRY, "capture", *words, "--", *command], cwd=tmp_path, env=env, stdout=subprocess.PIPE
    ) as ran:
        until((tmp_path / "ended").exists)
        aws.heal()
        out, _ = ran.communicate(timeout=PATIENCE)

    assert (ran.returncode, out) == (3, b"out\n")
    store = open_store(f"s3://{aws.bucket}")
    (log,) = store.list(f"_ssm_logs/a/{DATE}/")
    assert store.read(log.key) == (b"out\n", log)


@pytest.mark.slow
@each_form
def test_a_status_says_that_the_store_is_away_and_what_to_do(
    aws: AwsLab, tmp_path: Path, form: str
) -> None:
    """I51: 69 with a hint, soon, and nothing that could be taken for the state of the stages."""
    table = Table(tmp_path, open_store(f"s3://{aws.bucket}"))
    table.stage("a")
    env = surroundings(aws, tmp_path / "changes", form)
    aws.outage(form, LONG)

    away = spot_backtest(*table.words("status"), env=env, cwd=tmp_path)

    assert (away.code, away.out) == (69, "")
    assert away.err.startswith(f"spot_backtest: s3://{aws.bucket}: ")
    assert "AWS_ENDPOINT_URL" in away.err
    assert len(away.err.splitlines()) <= 2


def test_a_refusal_whose_body_breaks_off_may_be_answered_later(s3: S3Lab) -> None:
    """I51: botocore passes on what urllib3 raises there; that of an absent object is one."""
    s3.make_bucket("breaks-off")
    s3.fail("GET", "/absent", "reset")

    with pytest.raises(PreflightError) as error:
        open_store("s3://breaks-off").read("absent")

    assert error.value.passing
    assert open_store("s3://breaks-off").read("absent") is None
