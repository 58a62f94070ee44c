"""The code of a run as one archive, stored once by its hash.

An instance gets the committed tree at one commit; what a tree holds beside that is refused, or
bundled under a hash of its own.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import re
import subprocess
import tarfile
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from shim.errors import PreflightError
from shim.secret_files import looks_secret, named
from shim.store import ABSENT, Conflict, Store

FOLDER = "_bundles"
MOST = 200 << 20  # bytes of all files
TOOL, WORK = "tool", "work"  # folders of the archive
NEVER = {".git", ".venv", ".venv.lock", "__pycache__", "artifacts"}  # outside of a repository
SHOWN = 5  # names in a message
MOST_SECRETS = 20  # of them in the message about all
HEXADECIMAL = re.compile(r"[0-9a-f]{7,64}")  # a commit, or the beginning of one


@dataclass(frozen=True)
class Bundle:
    """A gzipped tar. `entry` and `root` are the folders of the entry and of the table in it."""

    body: bytes
    sha256: str
    entry: str
    root: str
    code_version: str

    @property
    def key(self) -> str:
        """Where it is stored."""
        return f"{FOLDER}/{self.sha256}.tar.gz"


@dataclass(frozen=True)
class Tree:
    """A repository's working tree, or a plain folder."""

    top: Path
    commit: str  # of HEAD in full; empty for a plain folder
    changed: tuple[str, ...]  # what differs from it


def make(
    entry: Path, root: Path, code_version: str, allow_dirty: bool, allow_files: Sequence[str] = ()
) -> Bundle:
    """Bundle the code of a run: the trees that hold the entry and the table's root.

    With `allow_dirty` files are taken as they are, and the code's version tells them from the
    commit; one that looks like a secret and is not committed is refused unless `allow_files` names
    it. Raises PreflightError for that, for a tree with changes, and if the code changed since the
    plan.
    """
    trees = {TOOL: _tree(entry), WORK: _tree(root)}
    if trees[TOOL].top == trees[WORK].top:
        del trees[TOOL]
    inside = {
        name: str(PurePosixPath(folder, path.relative_to(trees[folder].top)))
        for name, path, folder in (
            ("entry", entry, TOOL if TOOL in trees else WORK),
            ("root", root, WORK),
        )
    }
    dirty = any(tree.changed or not tree.commit for tree in trees.values())
    if dirty and not allow_dirty:
        raise _refused(trees.values())
    if dirty:
        _refuse_secrets(trees.values(), allow_files)
    version = code_version.removesuffix("-dirty")
    commit = trees[WORK].commit
    same = version == code_version and commit.startswith(version)
    if not dirty and HEXADECIMAL.fullmatch(version) and not same:
        raise PreflightError(
            f"the code changed since the plan ({code_version} then, {commit[:12]} now)",
            "run the same command again",
        )
    body = _archive(trees, dirty)
    digest = hashlib.sha256(body).hexdigest()
    if dirty:
        code_version = f"{version}-{digest[:12]}-dirty"
    return Bundle(body, digest, inside["entry"], inside["root"], code_version)


def store_bundle(store: Store, bundle: Bundle) -> bool:
    """Store a bundle in one conditional put; return False if it was there."""
    try:
        store.put(bundle.key, bundle.body, ABSENT)
    except Conflict:
        return False
    return True


def _tree(path: Path) -> Tree:
    top = _git(path, "rev-parse", "--show-toplevel")
    commit = _git(path, "rev-parse", "--verify", "--quiet", "HEAD") if top else None
    if top is None or commit is None:
        return Tree(path, "", ())
    folder = Path(top.rstrip("\n"))
    status = _git(folder, "status", "--porcelain=v1", "-z", "--no-renames") or ""
    changed = tuple(row[3:] for row in status.split("\0") if row)
    return Tree(folder, commit.strip(), changed)


def _refused(trees: Iterable[Tree]) -> PreflightError:
    for tree in trees:
        if not tree.commit:
            return PreflightError(
                f"{tree.top} is no git repository with a commit, so nothing says which code ran",
                "commit it, or add --allow-dirty to take the files as they are",
            )
        if tree.changed:
            names = ", ".join(tree.changed[:SHOWN])
            more = len(tree.changed) - SHOWN
            return PreflightError(
                f"{tree.top} has changes that are not committed ({names}"
                f"{f' and {more} more' if more > 0 else ''})",
                "commit them, or add --allow-dirty to take the files as they are",
            )
    raise AssertionError


def _refuse_secrets(trees: Iterable[Tree], allowed: Sequence[str]) -> None:
    """Refuse what looks like a secret, all of it at once; what was committed was somebody's choice.

    Raises PreflightError.
    """
    places = []
    for tree in trees:
        found = [
            name
            for name, mode, content in _as_they_are(tree, _uncommitted(tree))
            if mode != "120000" and looks_secret(name, content) and not named(name, allowed)
        ]
        more = len(found) - MOST_SECRETS
        if found:
            places.append(
                f"in {tree.top}: {', '.join(found[:MOST_SECRETS])}"
                f"{f' and {more} more' if more > 0 else ''}"
            )
    if places:
        raise PreflightError(
            f"files that look like secrets would be stored with the code ({'; '.join(places)})",
            "move them, add them to .gitignore, or name them in allow_files under [redact]",
        )


def _uncommitted(tree: Tree) -> set[str] | None:
    """Return the files that are not what the commit has, None for all."""
    if not tree.commit:
        return None
    changed = _git(tree.top, "diff", "--name-only", "--no-renames", "-z", tree.commit) or ""
    added = _git(tree.top, "ls-files", "-z", "--others", "--exclude-standard") or ""
    return set(filter(None, f"{changed}{added}".split("\0")))


def _archive(trees: dict[str, Tree], dirty: bool) -> bytes:
    """Return a gzipped tar that is the same for the same files."""
    sizes: dict[str, int] = {}
    packed = io.BytesIO()
    # Without a name and a time in gzip's header (RFC 1952) equal trees are equal bytes.
    with (
        gzip.GzipFile(filename="", mode="wb", fileobj=packed, mtime=0) as stream,
        tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as made,
    ):
        for folder, tree in sorted(trees.items()):
            files = _as_they_are(tree) if dirty else _committed(tree)
            for name, mode, content in files:
                sizes[f"{folder}/{name}"] = len(content)
                if sum(sizes.values()) > MOST:
                    raise _too_large(sizes)
                _add(made, f"{folder}/{name}", mode, content)
    return packed.getvalue()


def _add(made: tarfile.TarFile, name: str, mode: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    if mode == "120000":
        entry.type, entry.linkname = tarfile.SYMTYPE, os.fsdecode(content)
        made.addfile(entry)
        return
    entry.size, entry.mode = len(content), 0o755 if mode == "100755" else 0o644
    made.addfile(entry, io.BytesIO(content))


def _committed(tree: Tree) -> Iterator[tuple[str, str, bytes]]:
    """Return name, git's mode and content of every file of the commit."""
    listed = _git(tree.top, "ls-tree", "-r", "-z", tree.commit) or ""
    rows = [row.partition("\t") for row in listed.split("\0") if row]
    found = []
    for about, _, name in rows:
        mode, kind, blob = about.split()
        if kind == "commit":
            raise PreflightError(f"{tree.top} has the submodule {name}", "bundle its files instead")
        found.append((name, mode, blob))
    asked = "".join(f"{blob}\n" for *_, blob in found).encode()
    answer = io.BytesIO(_git_bytes(tree.top, "cat-file", "--batch", given=asked) or b"")
    for name, mode, _ in found:
        size = int(answer.readline().split()[2])
        yield name, mode, answer.read(size)
        answer.read(1)


def _as_they_are(
    tree: Tree, only: Collection[str] | None = None
) -> Iterator[tuple[str, str, bytes]]:
    """Return name, mode and content of every file that is there and not ignored, or of some."""
    if tree.commit:
        words = ("ls-files", "-z", "--cached", "--others", "--exclude-standard", "--deduplicate")
        names = sorted(filter(None, (_git(tree.top, *words) or "").split("\0")))
    else:
        names = sorted(
            str((Path(folder) / name).relative_to(tree.top))
            for folder, folders, files in os.walk(tree.top)
            for name in [*files, *(f for f in folders if (Path(folder) / f).is_symlink())]
            if not NEVER.intersection(Path(folder, name).relative_to(tree.top).parts)
        )
    for name in names:
        if only is not None and name not in only:
            continue
        path = tree.top / name
        with suppress(FileNotFoundError):  # deleted, and not committed so
            if path.is_symlink():
                yield name, "120000", os.fsencode(path.readlink())
            elif path.is_file():
                mode = "100755" if os.access(path, os.X_OK) else "100644"
                yield name, mode, path.read_bytes()


def _too_large(sizes: dict[str, int]) -> PreflightError:
    largest = sorted(sizes, key=lambda name: -sizes[name])[:SHOWN]
    named = ", ".join(f"{name} ({sizes[name] >> 20} MiB)" for name in largest)
    return PreflightError(
        f"the code has more than {MOST >> 20} MiB; its largest files: {named}",
        "keep data in the store, not in the repository",
    )


def _git(folder: Path, *words: str) -> str | None:
    """Return what git prints, or None if it fails."""
    found = _git_bytes(folder, *words)
    return None if found is None else os.fsdecode(found)


def _git_bytes(folder: Path, *words: str, given: bytes | None = None) -> bytes | None:
    # A hook that calls us has set GIT_DIR and its like, which are about another repository.
    env = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    env["GIT_OPTIONAL_LOCKS"] = "0"
    command = ["git", "-c", "core.quotePath=false", *words]
    try:
        done = subprocess.run(
            command, cwd=folder, env=env, input=given, capture_output=True, check=False
        )
    except OSError as error:
        raise PreflightError(f"git cannot be run ({error.strerror})", "install git") from error
    return done.stdout if done.returncode == 0 else None
