"""Calls the command line as its users do: in this process, or as a child of it."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

from hypothesis import strategies as st

from shim import cli
from tests.children import PATIENCE
from tests.entry import ROOT, Done

SHIM = ROOT / "shim"
# What an argument and a variable can hold: everything but NUL and what UTF-8 does not have.
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40)


def call(*words: str, env: Mapping[str, str] | None = None) -> Done:
    """Run the command line in this process, with these variables and no others."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
    variables = {"SPOT_CODE_VERSION": "abc", **(env or {})}
    with (
        patch.dict(os.environ, variables, clear=True),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        code = _code(words)
    texts = []
    for stream in (out, err):
        stream.flush()
        raw = stream.buffer
        assert isinstance(raw, io.BytesIO)
        texts.append(raw.getvalue().decode("utf-8", "surrogateescape"))
    return Done(code, *texts)


def _code(words: Sequence[str]) -> int:
    try:
        cli.main(list(words))
    except SystemExit as left:
        return left.code if isinstance(left.code, int) else int(left.code is not None)


def planned(*words: str, env: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return the plan of a command line that must be right, as decoded JSON."""
    done = call("plan", "--json", *words, env=env)
    assert (done.code, done.err) == (0, ""), done
    plan: dict[str, Any] = json.loads(done.out)
    return plan


def child(
    *words: str | bytes | Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    program: Sequence[str] = (str(SHIM),),
) -> Done:
    """Run `python shim …` with these variables and no others."""
    done = subprocess.run(
        [sys.executable, *program, *words],
        env=dict(env or {}),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    texts = (text.decode("utf-8", "surrogateescape") for text in (done.stdout, done.stderr))
    return Done(done.returncode, *texts)


def one_line(done: Done, code: int) -> str:
    """Return the one line on stderr of a call that must have failed with a code."""
    assert done.code == code, done
    assert done.out == ""
    assert done.err.startswith("spot_backtest: ")
    assert done.err.endswith("\n")
    assert done.err.count("\n") == 1, done.err
    assert "Traceback" not in done.err
    return done.err


def write_table(folder: Path, text: str) -> Path:
    """Write a table of stages and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "pipeline.toml"
    path.write_text(text, encoding="utf-8")
    return path
