"""What bash and shellcheck say of scripts, when they are on PATH. Neither runs a script."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from shim.errors import UsageError, shown

KNOWN = ("sh", "bash", "dash")
NEEDS = {"ASL504": "bash", "ASL505": "shellcheck"}
"""The rules that need a program."""
LONGEST = 120  # seconds, for all scripts of a definition
# One bash for all files: it parses each in a child of its own, and prints a NUL after each.
EACH = 'for file do "$BASH" -n "./$file" 2>&1; printf "\\0"; done'


def missing(codes: list[str]) -> list[str]:
    """Return a sentence for each of these rules whose program is not on PATH."""
    return [
        f"{code} was not checked: {program} is not on PATH"
        for code, program in NEEDS.items()
        if code in codes and shutil.which(program) is None
    ]


def bash(scripts: Mapping[str, str]) -> dict[str, str]:
    """Return, for each script that `bash -n` refuses, the first thing that it says.

    Empty when there is no bash (`missing` says so). Raises UsageError when it fails.
    """
    program = shutil.which("bash")
    if program is None or not scripts:
        return {}
    texts = list(dict.fromkeys(scripts.values()))
    with _files(texts) as (folder, names):
        done = _run([program, "--norc", "--noprofile", "-c", EACH, "bash", *names], folder)
    said = dict(zip(texts, done.stdout.split("\0"), strict=False))
    first = {text: words.strip().split("\n")[0] for text, words in said.items() if words.strip()}
    return {key: _message(first[text]) for key, text in scripts.items() if text in first}


def _message(text: str) -> str:
    """Return what bash says without the name of the file."""
    return text.partition(": ")[2] or text


def shellcheck(scripts: Mapping[str, str]) -> Iterator[tuple[str, int, str, str]]:
    """Return shellcheck's errors: the script's key, the number, the message, the line.

    Nothing when there is no shellcheck (`missing` says so). Raises UsageError when it fails.
    """
    program = shutil.which("shellcheck")
    if program is None or not scripts:
        return
    texts = list(dict.fromkeys(scripts.values()))
    with _files(texts) as (folder, names):
        # Without a first line `#!…` shellcheck takes any shell; one that names a shell wins.
        options = ["--norc", "--severity=error", "--format=json", "--shell=bash"]
        done = _run([program, *options, *names], folder)
    # 0 and 1 are its answers; anything else is a failure of its own.
    if done.returncode not in (0, 1):
        raise _broken("shellcheck", done.stderr.strip() or str(done.returncode))
    comments = json.loads(done.stdout)
    for key, text in scripts.items():
        for comment in comments:
            if comment["file"] == names[texts.index(text)]:
                line = text.split("\n")[comment["line"] - 1]
                yield key, comment["code"], comment["message"], line


@contextmanager
def _files(texts: list[str]) -> Iterator[tuple[str, list[str]]]:
    """Write texts to files in a folder of their own; return the folder and the files' names."""
    with tempfile.TemporaryDirectory(prefix="asl-lint-") as folder:
        names = [f"{number}.sh" for number in range(len(texts))]
        for name, text in zip(names, texts, strict=True):
            Path(folder, name).write_bytes(text.encode("utf-8"))
        yield folder, names


def _run(command: list[str], folder: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a folder, with messages in English. Raises UsageError."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    try:
        return subprocess.run(
            command,
            cwd=folder,
            env={**kept, "LC_ALL": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=LONGEST,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _broken(Path(command[0]).name, str(error)) from error


def _broken(program: str, words: str) -> UsageError:
    codes = ",".join(code for code, needed in NEEDS.items() if needed == program)
    return UsageError(f"{program} failed: {shown(words)}", f"repair it, or --ignore {codes}")
