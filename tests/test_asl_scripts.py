"""The scripts of the built definitions, run as the agent runs them, in any sh."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shim.asl import build, table
from shim.asl.render import render
from shim.errors import PipelineError
from shim.pipeline import load
from tests.machines import OURS, built, every_table, read

GIVEN = {"ec2_instance_id": "i-1", "sns_topic_arn": "arn:aws:sns:eu-west-1:1:t"}
NAME = "it's(a)+b=c@d!"
STAND_IN = '#!/bin/sh\nprintf "%s\\0" "$RUN_DATE" "$EXECUTION_ID" "$PWD" "$@" >"{out}"\n'


def script(path: Path, folder: Path, **given: Any) -> dict[str, str]:
    """Return each state's script, as it would be in a folder of the test's."""
    before = [
        f"cd {folder}" if line.startswith("cd ") else line.replace("/etc/", f"{folder}/")
        for line in read(path)["state_machine"]["before"]
    ]
    rendering = render(built(path, {"before": before}), {**GIVEN, **given}, None, NAME)
    found = {}
    for commands in rendering.commands:
        assert commands.reached
        assert not commands.problems
        assert not commands.differs
        found[commands.state] = commands.script()
    return found


def run(shell: str, script: str, folder: Path) -> list[str]:
    """Run a script as the agent does, and return what the stand-in for python was given."""
    out = folder / "out"
    out.unlink(missing_ok=True)
    file = folder / "_script.sh"
    file.write_text(script)
    done = subprocess.run(
        [shell, str(file)],
        cwd="/usr/bin",
        env={"PATH": f"{folder}:/usr/bin:/bin", "SSM_COMMAND_ID": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return out.read_text().split("\0")[:-1]


@pytest.fixture
def sandbox(tmp_path: Path) -> Path:
    """A folder with a stand-in for python, and an environment file that wants another date."""
    folder = tmp_path / "sandbox"
    folder.mkdir()
    python = folder / "python"
    python.write_text(STAND_IN.format(out=folder / "out"))
    python.chmod(0o755)
    for name in ("weekly.env", "spot-backtest.env"):
        (folder / name).write_text("RUN_DATE=1999-01-01\nEXECUTION_ID=other\n")
    return folder


@pytest.mark.parametrize("shell", ["bash", "dash"])
@every_table
def test_every_script_runs_under_any_sh_and_the_arguments_arrive(
    path: Path, shell: str, sandbox: Path
) -> None:
    """I24, I25: byte for byte, without HOME, and what was injected wins over the file."""
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    machine = table.parse(load(path))
    scripts = {k.rpartition("/")[2]: v for k, v in script(
        path, sandbox, run_date="2026-05-17", dry_run=True
    ).items()}  # fmt: skip
    assert len(scripts) == len(machine.rows)
    for row in machine.rows:
        found = run(shell, scripts[row.stage.state], sandbox)
        assert found[:3] == ["2026-05-17", NAME, str(sandbox)]
        assert found[3:] == [*shlex.split(row.launch)[1:], "--dry-run"]


def test_a_script_that_cannot_go_on_stops(sandbox: Path) -> None:
    """Without the folder nothing is launched from another one."""
    (text, *_) = script(OURS, sandbox / "missing", run_date="2026-05-17").values()
    with pytest.raises(AssertionError):
        run("sh", text, sandbox)
    assert not (sandbox / "out").exists()


PLAIN = "".join(map(chr, range(32, 127))).translate(dict.fromkeys(map(ord, "'\"\\{}")))
PLAIN_WORD = st.text("abcXYZ019_%+,-./:=@^", min_size=1, max_size=30)


@settings(max_examples=60, deadline=None)
@given(words=st.lists(PLAIN_WORD, min_size=1, max_size=5))
def test_a_launcher_of_plain_words_arrives_whole(words: Sequence[str]) -> None:
    """What the table says is the last line of the script, with the date right before it."""
    launch = " ".join(words)
    definition = built(OURS, {"launch": launch, "dry_run": ""})
    for commands in render(definition, {**GIVEN, "run_date": "2026-05-17"}, None, NAME).commands:
        assert commands.texts()[-2:] == ("export RUN_DATE=2026-05-17", launch)


@settings(max_examples=200, deadline=None)
@given(launch=st.text(max_size=20))
def test_a_launcher_is_taken_as_it_stands_or_refused(launch: str) -> None:
    """I02: nothing that ASL, JSON and the shell read differently gets into a definition."""
    try:
        definition = built(OURS, {"launch": launch, "dry_run": ""})
    except PipelineError:
        assert not launch or set(launch) - set(PLAIN)
        return
    text = build.written(definition)
    assert "\\" not in text
    for fields in ("stage", "slug", "on", "others"):
        launch = launch.replace(f"{{{fields}}}", "")
    assert not set(launch) & set("'\"\\{}\n")
