"""Definitions that are broken as the incidents were: each turns a test of an execution red."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import test_asl_execution as execution
from tests import test_asl_statuses as statuses
from tests.executions import document
from tests.lab.stepfunctions import Engine, engine
from tests.machines import OURS, changed
from tests.test_asl_mutations import ONLY_EXECUTION

Change = Callable[[Any], object]


def _without_export(found: Any) -> None:
    for name in ("Backtest", "Parity", "Evaluator"):
        parameters = found[name]["Parameters"]["Parameters"]
        parameters["commands.$"] = parameters["commands.$"].replace(
            "States.Format('export RUN_DATE={}', $.run_date), ", ""
        )


def _lost_root(found: Any) -> None:
    found["BacktestPoll"]["ResultPath"] = "$"


def _no_validation(found: Any) -> None:
    found["IsRunDateText"]["Default"] = "CheckInput"
    found["CheckRunDate"]["Default"] = "CheckInput"


def _far_gate(found: Any) -> None:
    found["BacktestGate"]["Choices"][0]["Next"] = "EvaluatorGate"


def _no_retry(found: Any) -> None:
    del found["ParityPoll"]["Retry"][0]


def _warning(found: Any) -> None:
    found["BacktestFailed"]["Next"] = "ParityGate"


def _delayed(found: Any) -> None:
    running = found["ParityStatus"]["Choices"][-1]["And"][0]["Or"]
    running.remove({"Variable": "$.result.Status", "StringEquals": "Delayed"})


def _bare_handler(found: Any) -> None:
    found["Backtest"]["Catch"][0]["Next"] = "HandleFailure"


def _input_suffix(found: Any) -> None:
    for name in ("DryPass", "RealPass"):
        found[name]["ResultPath"] = "$.unused"


LINES = execution.test_three_stages_get_one_date_one_name_and_no_home
GATES = execution.test_every_skip_combination_runs_exactly_the_rest
AGAIN = statuses.test_75_for_ever_fails_after_the_tries_of_the_table
OVERDUE = statuses.test_a_command_that_is_overdue_is_cancelled_and_dies
# What the linter says nothing about, by its name there, and the test that sees it.
UNSEEN: dict[str, Callable[[Engine], None]] = {
    "the dry pass and the real one swapped": LINES,
    "the wrong stage on the launch line": LINES,
    "a gate that asks for another stage's flag": GATES,
    "tries that are never counted": AGAIN,
    "no backoff before the next try": AGAIN,
    "an overdue command is not cancelled": OVERDUE,
    "a failure that tells nobody": AGAIN,
    "exit 75 is not sent again": AGAIN,
}
MUTANTS: list[tuple[Change, Callable[[Engine], None]]] = [
    (_without_export, execution.test_three_stages_get_one_date_one_name_and_no_home),
    (_lost_root, execution.test_three_stages_get_one_date_one_name_and_no_home),
    (_no_validation, execution.test_what_is_no_date_ends_at_once_and_no_command_is_sent),
    (_far_gate, execution.test_every_skip_combination_runs_exactly_the_rest),
    (_no_retry, execution.test_three_stages_get_one_date_one_name_and_no_home),
    (_warning, statuses.test_the_handler_is_reached_from_every_state_that_can_fail),
    (_delayed, statuses.test_every_status_of_ssm_has_its_way),
    (_bare_handler, statuses.test_the_handler_is_reached_from_every_state_that_can_fail),
    (_input_suffix, execution.test_no_other_text_of_the_input_reaches_a_shell),
]


@pytest.mark.slow
@pytest.mark.parametrize(("change", "test"), MUTANTS, ids=lambda f: f.__name__.lstrip("_"))
def test_these_tests_see_a_definition_that_is_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Change, test: Callable[[Engine], None]
) -> None:
    """Each break is what one of the incidents was, and turns its test red."""

    def broken(lab: Engine, path: Path = OURS, **section: Any) -> str:
        return changed(document(lab, path, **section), change)

    monkeypatch.setattr(sys.modules[test.__module__], "definition", broken)
    with engine(tmp_path) as own, pytest.raises((AssertionError, ValueError)):
        test(own)


@pytest.mark.slow
@pytest.mark.parametrize("name", ONLY_EXECUTION)
def test_what_lint_cannot_see_an_execution_sees(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Every break that the linter is silent about turns a test of an execution red."""
    test = UNSEEN[name]

    def broken(lab: Engine, path: Path = OURS, **section: Any) -> str:
        return changed(
            document(lab, path, **section), lambda found: ONLY_EXECUTION[name]({"States": found})
        )

    monkeypatch.setattr(sys.modules[test.__module__], "definition", broken)
    with engine(tmp_path) as own, pytest.raises((AssertionError, ValueError)):
        test(own)
