"""What a failed attempt made is kept and named: the newest of each stage, up to a size.

Here it lies beside the temporary folders, where a rename brings it; from an instance, whose disk
dies with it, it goes into the store beside the receipt. Nothing here decides how an attempt ends.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from shim import private, reclaim, tidy
from shim.errors import RecordError, ShimError
from shim.pipeline import RESERVED
from shim.plan import Plan, StagePlan
from shim.store import Conflict, Missing, Store, key_problem

FOLDER = "spot_backtest-failed"  # with the user's id, in the folder for temporary files
FAILED = ".failed/"  # ends the folder of an attempt's files in the store
LONG, SHORT = 300.0, 20.0  # seconds for the way into the store, and for one that is told to end


@dataclass(frozen=True)
class _File:
    path: str
    size: int
    plain: bool


class Keeper:
    """Keeps what one attempt leaves in `folder`/artifacts."""

    def __init__(
        self, plan: Plan, stage: StagePlan, attempt: str, folder: Path, tell: Callable[[str], None]
    ) -> None:
        self._plan, self._stage, self._attempt, self._tell = plan, stage, attempt, tell
        self._folder, self._private = folder, folder / private.FOLDER
        self._begun = folder / "begun"
        self._moment: int | None = None  # when it began, as the supervisor remembers
        self._stays = False

    def begin(self) -> None:
        """Note that the command starts: what is there and older was brought in."""
        newest = max((s.st_ctime_ns for _, s in _entries(self._private)), default=0)
        self._moment = newest + 1
        with suppress(OSError):  # a full disk: then the front, if it is alone, keeps nothing
            self._begun.touch(mode=0o600)
            while self._begun.stat().st_ctime_ns <= newest:  # a tick of the kernel's clock, or two
                time.sleep(0.001)
                os.utime(self._begun)
            self._moment = self._begun.stat().st_ctime_ns

    def keep(
        self, store: Store | None, hurry: Callable[[], bool], superseded: bool = False
    ) -> str | None:
        """Keep it, say where, and return that: a path or an address; None if there is nothing.

        `store` is the way out of an instance; `hurry` says that the attempt was told to end.
        """
        try:
            return self._keep(store, hurry, superseded)
        except Exception as error:  # also a bug of ours: the status is the stage's
            self._stays = True
            self._tell(f"its files stay in {self._private} ({error})")
            return str(self._private)

    def tidy(self, log: Path) -> None:
        """Remove the attempt's folder, but for what stays in it: files, or a log not shipped."""
        with suppress(OSError):
            self._begun.unlink(missing_ok=True)
        if not self._stays:
            tidy.remove(self._private)
            if not tidy.is_file(log):
                tidy.remove(self._folder)

    def _keep(self, store: Store | None, hurry: Callable[[], bool], superseded: bool) -> str | None:
        with suppress(FileNotFoundError):  # the front, whose supervisor is gone, has the file alone
            self._moment = self._moment or self._begun.stat().st_ctime_ns
        if self._moment is None or not os.path.lexists(self._private):
            return None
        if self._private.is_symlink() or self._folder.is_symlink():
            self._stays = True  # what it leads to may lie in the attempt's folder
            where = os.path.realpath(self._private)
            self._tell(f"its files are left where ARTIFACTS_DIR leads now: {where}")
            return where
        tidy.open_up(self._private)
        self._drop_brought(self._moment)
        files = list(self._files())
        size, bound = sum(one.size for one in files), self._stage.keep_failed
        if not files or not bound:
            return None
        found = None
        if store is not None and reclaim.launch():
            if reclaim.noticed():
                self._tell(
                    f"its {len(files)} files ({size:,} bytes) go with the instance; "
                    "CHECKPOINT_DIR is for what is to outlive it"
                )
                return None
            found, whole = self._into_store(store, files, hurry, superseded)
            if found and (whole or size > bound):
                return found
        if size > bound:
            self._tell(
                f"its files ({size:,} bytes) are removed, for keep_failed is {bound:,} bytes; "
                f"raise it in {self._plan.pipeline}"
            )
            return None
        kept = self._aside()
        self._tell(f"its files are kept in {kept}")
        return found or str(kept)

    def _drop_brought(self, begun: int) -> None:
        """Remove what was brought in and is as it was. A directory on the way may be a link now."""
        inside = os.path.realpath(self._private)
        for path in self._stage.requires:
            file = self._private / path
            with suppress(OSError):
                there = os.path.realpath(file.parent) == os.path.normpath(
                    os.path.join(inside, os.path.dirname(path))  # noqa: PTH118, PTH120  as realpath
                )
                about = file.lstat()
                if there and stat.S_ISREG(about.st_mode) and about.st_ctime_ns < begun:
                    file.unlink()

    def _files(self) -> Iterator[_File]:
        """Return all that is no directory; what has two names counts once."""
        seen: set[tuple[int, int]] = set()
        for path, about in _entries(self._private):
            name = (about.st_dev, about.st_ino)
            size = 0 if name in seen else about.st_size
            seen.add(name)
            relative = os.path.relpath(path, self._private)
            yield _File(relative, size, stat.S_ISREG(about.st_mode))

    def _aside(self) -> Path:
        """Move it to its place, then remove what was there. Raises OSError."""
        plan, name = self._plan, self._stage.name
        runs = plan.run_prefix.removesuffix(f"{plan.run_date}/")
        digest = hashlib.sha256(json.dumps([plan.store, runs, name]).encode()).hexdigest()
        base = base_in(self._folder.parent)
        place = base / f"{name}-{digest[:12]}"
        for folder in (base, place):
            with suppress(FileExistsError):
                folder.mkdir(mode=0o700)
            about = folder.lstat()
            mine = about.st_uid == os.geteuid() and not about.st_mode & 0o077
            if not (stat.S_ISDIR(about.st_mode) and mine):
                raise OSError(0, f"{folder} is not a folder of this user alone")
        older = list(place.iterdir())
        if self._private.is_dir():
            self._private.chmod(0o700)
        kept = self._private.rename(place / self._attempt)
        for path in older:
            tidy.remove(path)
        return kept

    def _into_store(
        self, store: Store, files: list[_File], hurry: Callable[[], bool], superseded: bool
    ) -> tuple[str | None, bool]:
        """Put the smallest files beside the receipt, as many as the bound and the time allow.

        Return where they are, None if nowhere, and whether that is all.
        """
        folder = f"{self._plan.run_prefix}{RESERVED}/{self._stage.name}/"
        prefix = f"{folder}{self._attempt}{FAILED}"
        begun, bound, put, why = time.monotonic(), self._stage.keep_failed, 0, ""
        fit = [one for one in files if one.plain and not key_problem(prefix + one.path)]
        rest = [one.path for one in {*files}.difference(fit)]

        def in_time(_count: int = 0) -> None:
            if time.monotonic() - begun > (SHORT if hurry() else LONG):
                raise RecordError("the time is up")

        waiting = sorted(fit, key=lambda one: (one.size, one.path))
        while waiting:
            one = waiting[0]
            try:
                if one.size > bound:
                    raise RecordError(f"keep_failed is {self._stage.keep_failed:,} bytes")
                in_time()
                store.put(prefix + one.path, self._private / one.path, progress=in_time)
            except (ShimError, Conflict, OSError) as error:
                why = error.message if isinstance(error, ShimError) else str(error)
                break
            waiting.pop(0)
            put, bound = put + 1, bound - one.size
        rest += [one.path for one in waiting]
        where = store.uri_of(prefix) if put else None
        if where:
            self._tell(f"its files are kept in {where}")
        if rest:
            because = f" ({why})" if why else ""
            self._tell(f"not kept there{because}: {private.listed(map(ascii, sorted(rest)))}")
        if put and not superseded:
            self._forget_older(store, folder, prefix)
        return where, not rest

    def _forget_older(self, store: Store, folder: str, prefix: str) -> None:
        """Remove what earlier attempts at the stage have in the store."""
        try:
            for found in list(store.list(folder)):
                if FAILED in found.key.removeprefix(folder) and not found.key.startswith(prefix):
                    store.delete(found.key)
        except (ShimError, Conflict, Missing) as error:
            self._tell(f"what an earlier attempt left there stays ({error})")


def base_in(temporary: Path) -> Path:
    """Return the folder for what is kept of failed attempts in one for temporary files."""
    return temporary / f"{FOLDER}-{os.geteuid()}"


def _entries(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Return all below a folder that is no directory, and its state; a file is itself."""
    if not folder.is_dir():
        with suppress(OSError):
            yield folder, folder.lstat()
    for where, folders, names in os.walk(folder):
        for name in (*folders, *names):
            path = Path(where, name)
            with suppress(OSError):
                about = path.lstat()
                if not stat.S_ISDIR(about.st_mode):
                    yield path, about
