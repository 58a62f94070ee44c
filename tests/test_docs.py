"""What the documents say exists: commands, options, variables, exit codes, tests."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import click
import pytest

from shim import errors
from shim.cli import cli
from shim.errors import ShimError
from tests.entry import spot_backtest

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
FAILURES = (ROOT / "docs" / "failures.md").read_text()
PROVED = (range(1, 45), range(50, 57), range(61, 74))
REQUIRED = {f"I{number:02}" for numbers in PROVED for number in numbers}


def test_the_readme_holds_the_help_as_it_is_printed() -> None:
    """The README's options are the entry's own; `make readme` puts them there."""
    spec = importlib.util.spec_from_file_location("readme", ROOT / ".ci" / "readme.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    done = spot_backtest("--help", env={"COLUMNS": "100"})
    assert done.code == 0
    assert module.embedded(README, "help", done.out) == README
    assert module.embedded(README, "help", done.out + "more") != README


def test_every_option_in_the_readme_exists() -> None:
    """A flag that the README names is one that some page of help lists."""
    pages = [(), ("capture",), ("plan",), *(("asl", name) for name in ("build", "lint", "render"))]
    text = "".join(spot_backtest(*page, "--help").out for page in pages)
    known = set(re.findall(r"--[a-z][a-z-]+", text))
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", README)) <= known | {"--flag"}


def test_every_command_is_in_the_readme_and_every_one_there_exists() -> None:
    """The table of commands and the command line name the same commands."""
    named = set(re.findall(r"^\| `\./spot_backtest\.sh ([a-z]+)", README, re.MULTILINE))
    with click.Context(cli) as ctx:
        found = {name: cli.get_command(ctx, name) for name in cli.list_commands(ctx)}
    assert named == {name for name, command in found.items() if command and not command.hidden}


def test_every_exit_code_of_an_error_is_in_the_readme() -> None:
    """The table of exit codes has a row for each class of error."""
    rows = re.findall(r"^\| (\d+) \|", README, re.MULTILINE)
    classes = [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, ShimError)]
    assert {str(c.code) for c in classes} <= set(rows)


def rows() -> list[tuple[str, str]]:
    """Return each incident of docs/failures.md with each test that its row names."""
    found = []
    for line in FAILURES.splitlines():
        if match := re.match(r"\| (I\d\d) \|", line):
            found += [(match[1], name) for name in re.findall(r"`((?:tests|bats)/[^`]+)`", line)]
    return found


@pytest.mark.parametrize(("incident", "test"), rows())
def test_a_row_of_failures_names_a_test_that_exists_and_names_it(incident: str, test: str) -> None:
    """The table of failures cannot name a test that is gone, or that proves something else."""
    file, _, name = test.partition("::")
    text = (ROOT / file).read_text()
    if file.endswith(".bats"):
        (title,) = [t for t in re.findall(r'^@test "(.*)" \{$', text, re.MULTILINE) if name in t]
        assert incident in title
    else:
        assert re.search(rf"^def {name}\(", text, re.MULTILINE), f"{name} is not in {file}"
        start = text.index(f"def {name}(")
        assert incident in text[start : text.find("\ndef ", start + 1)]


def test_every_failure_has_a_test() -> None:
    """Those that this project must prove are all in the table, each with a test."""
    assert {incident for incident, _ in rows()} == REQUIRED
