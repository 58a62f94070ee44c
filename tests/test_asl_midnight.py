"""An execution that begins a second before midnight, as the project is started by it."""

from __future__ import annotations

import json
import shutil
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from shim.asl.table import LAUNCH
from tests.children import until
from tests.entry import ROOT
from tests.executions import STAGES, definition
from tests.lab.stepfunctions import INPUT, engine
from tests.machines import built

FAKETIME = shutil.which("faketime")
ROWS = """
[[stage]]
name = "backtest"
command = ["sh", "-c", "until [ $(date -u +%F) = 2026-05-18 ]; do sleep 0.2; done; {leave}"]
produces = ["backtest.txt"]
timeout = "1h"

[[stage]]
name = "parity"
command = ["sh", "-c", "{leave}"]
needs = ["backtest"]
requires = ["backtest.txt"]
produces = ["parity.txt"]
timeout = "1h"

[[stage]]
name = "evaluator"
command = ["sh", "-c", "{leave}"]
needs = ["backtest", "parity"]
requires = ["parity.txt"]
produces = ["evaluator.txt"]
timeout = "1h"

[state_machine]
before = ["cd {root}", "export SPOT_STORE={store}", "export SPOT_PIPELINE={table}",
          "export SPOT_BACKTEST_PYTHON={python}"]
launch = "{launch}"
"""


def real_machine(folder: Path) -> str:
    """Return a definition that launches the project itself, with a store in a folder."""
    path = folder / "pipeline.toml"
    launch = LAUNCH.replace("python -m", f"{sys.executable} -m")
    launch = launch.replace("/var/log/", f"{folder}/")
    values = {"root": ROOT, "store": folder / "store", "table": path, "python": sys.executable}
    leave = "date -u +%F >$ARTIFACTS_DIR/$STAGE.txt"
    path.write_text(ROWS.format(leave=leave, launch=launch, **values))
    return json.dumps(built(path))


@pytest.mark.slow
@pytest.mark.skipif(FAKETIME is None, reason="faketime is not installed")
def test_an_execution_that_starts_a_second_before_midnight_has_one_date(tmp_path: Path) -> None:
    """I01: StartTime is 23:59:59, the stages run tomorrow, and every trace is under one date.

    Once with a stand-in for the launched program, once with the project itself.
    """
    began = time.monotonic()
    start = datetime(2026, 5, 17, 23, 59, 40, tzinfo=UTC)
    prefix = (str(FAKETIME), f"{start:%F %T}")

    def now() -> datetime:
        return start + timedelta(seconds=time.monotonic() - began)

    stay = "until [ $(date -u +%F) = 2026-05-18 ]; do sleep 0.2; done"
    with engine(tmp_path, prefix) as lab:
        stand_in, real = definition(lab), real_machine(tmp_path)
        until(lambda: now() > start + timedelta(seconds=18.9))
        arns = {
            "stand-in": lab.start(stand_in, INPUT, stages={"backtest": stay}),
            "real": lab.start(real, INPUT, name="midnight"),
        }
        found = {how: lab.end(arn, 120) for how, arn in arns.items()}
        opened = lab.ask("DescribeExecution", executionArn=arns["stand-in"])["startDate"]
    assert str(opened).startswith("2026-05-17T23:59:5") or isinstance(opened, float), opened
    for how, execution in found.items():
        assert (how, execution.status, execution.cause) == (how, "SUCCEEDED", "")
    ran = found["stand-in"].ran
    assert [each.run_date for each in ran] == ["2026-05-17"] * 3
    assert [each.today for each in ran][1:] == ["2026-05-18"] * 2
    store = tmp_path / "store"
    assert [path.name for path in (store / "backtest").iterdir()] == ["2026-05-17"]
    for stage in STAGES:
        assert (store / f"backtest/2026-05-17/{stage}.txt").read_text() == "2026-05-18\n"
        commit = json.loads((store / f"backtest/2026-05-17/_stages/{stage}.json").read_text())
        assert (commit["run_date"], commit["execution_id"]) == ("2026-05-17", "midnight")
        assert [p.name for p in (store / "_ssm_logs" / stage).iterdir()] == ["2026-05-17"]
