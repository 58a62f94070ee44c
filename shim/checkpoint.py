"""CHECKPOINT_DIR: what a stage leaves there is found again by its next attempt.

The files lie under `<run prefix>_stages/_checkpoints/<stage>/<code>/`, each by its SHA-256, and a
manifest that is written after them: half of a checkpoint is never seen. It belongs to one date,
stage and code; code that no commit names has none. Nothing here fails a stage.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from shim import reclaim, recorded
from shim.errors import RecordError, ShimError
from shim.pipeline import RESERVED
from shim.plan import Plan, StagePlan
from shim.store import ABSENT, Conflict, Expect, Missing, Store

FOLDER, MANIFEST = "_checkpoints", "manifest.json"
EVERY = 60.0  # seconds between two looks at the files
TICK = 1.0  # seconds: how late a notice is seen
PIECE = 1 << 20
CODE = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass(frozen=True)
class Saved:
    """A file in the store: its size in bytes, SHA-256 as hex, whether it can be executed."""

    size: int
    sha256: str
    executable: bool


class Checkpoint:
    """The folder of one attempt, kept equal to the store by a thread."""

    def __init__(
        self, store: Store, plan: Plan, stage: StagePlan, folder: Path, tell: Callable[[str], None]
    ) -> None:
        self.folder = folder / "checkpoint"
        self._spare = folder / "checkpoint.part"
        self._store, self._tell = store, tell
        code = plan.code_version
        self._kept = (
            bool(CODE.fullmatch(code)) and not code.endswith("-dirty") and code != "unknown"
        )
        self._prefix = f"{plan.run_prefix}{RESERVED}/{FOLDER}/{stage.name}/{code}/"
        self._etag: Expect = ABSENT
        self._saved: dict[str, Saved] = {}
        self._seen: dict[str, tuple[int, int]] = {}  # size and mtime when a file was last saved
        self._problem = ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="checkpoint", daemon=True)

    def open(self) -> None:
        """Make the folder, bring back what an earlier attempt left, and begin to save."""
        self.folder.mkdir(mode=0o700)
        if not self._kept:
            return
        try:
            self._restore()
        except (ShimError, Missing, Conflict, OSError, ValueError) as error:
            where = self._store.uri_of(self._prefix + MANIFEST)
            self._tell(f"its checkpoint {where} cannot be used, so it starts without ({error})")
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(mode=0o700, exist_ok=True)
            self._saved, self._seen = {}, {}
        self._thread.start()

    def close(self, save: bool) -> None:
        """Stop saving, after a last time if `save`."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()
            if save:
                self._try()
        shutil.rmtree(self.folder, ignore_errors=True)

    def forget(self) -> None:
        """Remove it from the store: its stage is committed."""
        if not self._kept or self._etag is ABSENT:
            return
        try:
            for there in list(self._store.list(self._prefix)):
                self._store.delete(there.key)
        except (ShimError, Conflict) as error:
            self._tell(f"its checkpoint stays in the store ({error})")

    def _work(self) -> None:
        due, noticed = time.monotonic() + EVERY, False
        while not self._stop.wait(TICK):
            notice = not noticed and reclaim.noticed()
            if notice or time.monotonic() >= due:
                noticed = noticed or notice
                self._try()
                due = time.monotonic() + EVERY

    def _try(self) -> None:
        """Save, and say what is wrong once for each problem."""
        problem = ""
        try:
            self._save()
        except Conflict:
            problem = "another attempt writes it"
        except (ShimError, OSError) as error:
            problem = str(error)
        if problem and problem != self._problem:
            self._tell(f"its checkpoint is not saved ({problem})")
        self._problem = problem

    def _restore(self) -> None:
        found = self._store.read(self._prefix + MANIFEST)
        if found is None:
            return
        self._etag = found[1].etag
        read = recorded.read(self._store, self._prefix + MANIFEST, found[0], recorded.Manifest)
        files = {
            name: Saved(row["size"], row["sha256"], row["executable"])
            for name, row in read["files"].items()
        }
        for name, saved in files.items():
            target = self.folder / _inside(name)
            target.parent.mkdir(parents=True, exist_ok=True)
            if self._store.get(self._prefix + saved.sha256, target) != saved.sha256:
                raise RecordError(f"{name} was changed")
            target.chmod(0o700 if saved.executable else 0o600)
            about = target.stat()
            self._seen[name] = (about.st_size, about.st_mtime_ns)
        self._saved = files
        size = sum(saved.size for saved in files.values())
        self._tell(f"goes on from its checkpoint ({len(files)} files, {size:,} bytes)")

    def _save(self) -> None:
        """Put what changed, then the manifest, then remove what it does not name any more."""
        files: dict[str, Saved] = {}
        for name, path, about in self._files():
            now = (about.st_size, about.st_mtime_ns)
            if self._seen.get(name) == now and name in self._saved:
                files[name] = self._saved[name]
                continue
            if saved := self._put(path, now):
                files[name] = saved
                self._seen[name] = now
            elif name in self._saved:  # it is being written: what was there before is whole
                files[name] = self._saved[name]
        if files == self._saved:
            return
        rows = {name: vars(saved) for name, saved in sorted(files.items())}
        body = json.dumps({"files": rows}, indent=1).encode()
        before = {saved.sha256 for saved in self._saved.values()}
        self._etag = self._store.put(self._prefix + MANIFEST, body, self._etag).etag
        self._saved = files
        for gone in before - {saved.sha256 for saved in files.values()}:
            self._store.delete(self._prefix + gone)

    def _put(self, path: Path, now: tuple[int, int]) -> Saved | None:
        """Store a copy of a file, so that the bytes are those of the name; None if it changes."""
        digest = hashlib.sha256()
        try:
            with path.open("rb") as source, self._spare.open("wb") as copy:
                while piece := source.read(PIECE):
                    digest.update(piece)
                    copy.write(piece)
                about = path.stat()
            if (about.st_size, about.st_mtime_ns) != now:
                return None
            name = digest.hexdigest()
            if name not in {saved.sha256 for saved in self._saved.values()}:
                self._store.put(self._prefix + name, self._spare)
            return Saved(about.st_size, name, bool(about.st_mode & 0o100))
        except FileNotFoundError:
            return None
        finally:
            self._spare.unlink(missing_ok=True)

    def _files(self) -> Iterator[tuple[str, Path, os.stat_result]]:
        """Return name, path and state of every regular file."""
        for folder, _, names in os.walk(self.folder):
            for name in names:
                path = Path(folder, name)
                try:
                    about = path.lstat()
                except FileNotFoundError:
                    continue
                if path.is_file() and not path.is_symlink():
                    yield path.relative_to(self.folder).as_posix(), path, about


def _inside(name: str) -> PurePosixPath:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise RecordError(f"{name!r} is not a path in the folder")
    return path
