"""Tiny pipelines for tests: a table of one-line stages, the shim's command line, what is left."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from shim import commit, pipeline, plan
from shim.commit import Artifact, Commit
from shim.plan import Plan
from shim.request import Request
from shim.store import Store

ROOT = Path(__file__).resolve().parent.parent
DATE = "2026-05-17"
PREFIX = f"backtest/{DATE}/"
NOW = datetime(2026, 5, 17, 12, tzinfo=UTC)
# What a stage does until a test lets it go on.
WAIT_FOR_GO = "echo begun; while ! [ -e go ]; do sleep 0.02; done"


def sha256(body: bytes) -> str:
    """Return the SHA-256 as hex."""
    return hashlib.sha256(body).hexdigest()


class Table:
    """A pipeline.toml whose stages are shell one-liners, and a store to run it with.

    Stages run in `folder`. Unless told otherwise a stage produces `<name>.txt`, a line.
    """

    def __init__(self, folder: Path, store: Store) -> None:
        self.folder, self.store = folder, store
        self.path = folder / "pipeline.toml"
        self.head = ""
        self._rows: list[str] = []
        self._write()

    def stage(self, name: str, script: str | None = None, **keys: Any) -> None:
        """Add a stage; `script` gets what sh -c takes, `keys` are those of the table."""
        keys.setdefault("produces", [f"{name}.txt"])
        keys.setdefault("timeout", "1m")
        writes = " && ".join(f'echo {name} > "$ARTIFACTS_DIR/{p}"' for p in keys["produces"])
        keys.setdefault("command", ["sh", "-c", writes if script is None else script])
        lines = [f"{key} = {json.dumps(value)}" for key, value in {"name": name, **keys}.items()]
        self._rows.append("\n".join(["[[stage]]", *lines]))
        self._write()

    def three(self) -> None:
        """Add backtest, parity and evaluator, each of which writes its name into `runs`."""
        self.stage("backtest", 'echo backtest >> runs; echo b > "$ARTIFACTS_DIR/b.txt"',
                   produces=["b.txt"])  # fmt: skip
        self.stage("parity", 'echo parity >> runs; cat "$ARTIFACTS_DIR/b.txt" > '
                   '"$ARTIFACTS_DIR/p.txt"', needs=["backtest"], requires=["b.txt"],
                   produces=["p.txt"])  # fmt: skip
        self.stage("evaluator", 'echo evaluator >> runs; cd "$ARTIFACTS_DIR"; '
                   "cat b.txt p.txt > e.txt", needs=["backtest", "parity"],
                   requires=["b.txt", "p.txt"], produces=["e.txt"])  # fmt: skip

    def words(self, *words: str) -> list[str]:
        """Return the arguments that select this table, its store and the run date."""
        given = ["--pipeline", str(self.path), "--store", self.store.uri]
        return [*words, *given, *([] if "--date" in words else ["--date", DATE])]

    def command(self, *words: str) -> list[str]:
        """Return the shim's command line."""
        return [sys.executable, str(ROOT / "shim"), *self.words(*words)]

    def run(self, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Run the shim: `run("stage", "backtest")`."""
        return self._run(self.command(*words), env)

    def entry(self, *flags: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Run spot_backtest.sh with this Python, so that it installs nothing."""
        command = [str(ROOT / "spot_backtest.sh"), *self.words(*flags)]
        return self._run(command, {"SPOT_BACKTEST_PYTHON": sys.executable, **env})

    def start(
        self, *words: str, patch: str = "", stdout: Any = subprocess.PIPE, **env: str
    ) -> subprocess.Popen[str]:
        """Start the shim in a session of its own; `patch` is Python that runs first."""
        command = self.command(*words)
        if patch:
            code = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{patch}\n"
            command[1:2] = ["-c", f"{code}from shim.cli import main; main()"]
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.env(env),
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def plan(self, **asked: Any) -> Plan:
        """Return the plan for this table, its store and the run date."""
        request = Request(**{"date": DATE, "code_version": "abc", **asked})
        made = plan.build(pipeline.load(self.path), request, NOW, "beef", self.folder)
        return dataclasses.replace(made, store=self.store.uri)

    def keys(self) -> list[str]:
        """Return every key in the store."""
        return [found.key for found in self.store.list("")]

    def leftovers(self) -> list[str]:
        """Return the temporary folders that are left."""
        there = [path.name for path in self.folder.glob("spot_backtest*")]
        return [name for name in there if not name.startswith("spot_backtest-failed-")]

    def kept(self, stage: str) -> list[Path]:
        """Return the folders in which files of a stage's failed attempts are kept."""
        return sorted(self.folder.glob(f"spot_backtest-failed-{os.geteuid()}/{stage}-*/*"))

    def contents(self) -> dict[str, str]:
        """Return the SHA-256 of everything in the store."""
        return {key: self.store.digest(key) for key in self.keys()}

    def receipts(self, stage: str) -> list[dict[str, Any]]:
        """Return the receipts of a stage, sorted by their ids: to the second by age."""
        return read_all(self.store, f"{PREFIX}_stages/{stage}/")

    def commit(self, stage: str) -> Commit | None:
        """Return the commit of a stage if it verifies."""
        found = commit.read(self.store, PREFIX, stage)
        return None if found is None or commit.problems(self.store, PREFIX, found, DATE) else found

    def log(self, stage: str) -> str:
        """Return what was shipped of a stage, one log after the other."""
        found = self.store.list(f"_ssm_logs/{stage}/{DATE}/")
        return "".join(body.decode() for body in bodies(self.store, (o.key for o in found)))

    def _run(self, command: list[str], env: dict[str, str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=self.folder,
            env=self.env(env),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def env(self, more: dict[str, str]) -> dict[str, str]:
        """Return the environment of what is started: temporary files lie in the folder."""
        return {**os.environ, "TMPDIR": str(self.folder), **more}

    def _write(self) -> None:
        self.path.write_text("\n".join([self.head, *self._rows, ""]))


def bodies(store: Store, keys: Iterable[str]) -> list[bytes]:
    """Return the objects that are there."""
    return [found[0] for key in keys if (found := store.read(key))]


def read_all(store: Store, prefix: str) -> list[dict[str, Any]]:
    """Return the JSON objects directly under a prefix."""
    keys = [o.key for o in store.list(prefix) if "/" not in o.key.removeprefix(prefix)]
    return [json.loads(body) for body in bodies(store, keys)]


def publish(
    store: Store,
    stage: str,
    *names: str,
    date: str = DATE,
    built_on: dict[str, str | None] | None = None,
    body: bytes = b"text",
    dry: bool = False,
) -> Commit:
    """Put artifacts and their commit into the store, as an attempt at a stage leaves them."""
    prefix = f"backtest/{'.dry-run/' if dry else ''}{date}/"
    listed = {
        name: Artifact(len(body), sha256(body), store.put(prefix + name, body).etag)
        for name in names
    }
    made = Commit(stage, date, "an execution", "an attempt", "abc", "then", listed, built_on or {})
    before = store.head(commit.key(prefix, stage))
    return commit.write(store, prefix, made, before.etag if before else None)
