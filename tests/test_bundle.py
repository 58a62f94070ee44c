"""The code of a run as one archive: the committed tree, the same bytes each time."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from shim import bundle
from shim.errors import PreflightError
from shim.store import Store
from tests.lab import S3Lab
from tests.repositories import GIT, commit_all


@pytest.fixture
def tool(tmp_path: Path) -> Path:
    """A repository with an entry."""
    return repository(tmp_path / "tool", {"spot_backtest.sh": "#!/bin/sh\n"})


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A repository with a table in a folder of it."""
    return repository(tmp_path / "work", {"deep/pipeline.toml": "", "code é.py": "print(1)\n"})


def repository(folder: Path, files: dict[str, str]) -> Path:
    """Make a repository with one commit."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    commit_all(folder)
    return folder


def head(folder: Path) -> str:
    """Return the commit of a repository."""
    words = [*GIT, "rev-parse", "--short=12", "HEAD"]
    return subprocess.run(words, cwd=folder, check=True, capture_output=True, text=True).stdout[:-1]


def files(made: bundle.Bundle) -> dict[str, str]:
    """Return what an archive holds: each file's text, each link's target."""
    with tarfile.open(fileobj=io.BytesIO(made.body)) as archive:
        return {
            entry.name: f"-> {entry.linkname}"
            if entry.issym()
            else (archive.extractfile(entry) or io.BytesIO()).read().decode()
            for entry in archive
        }


def test_the_committed_tree_of_entry_and_table_are_bundled(tool: Path, work: Path) -> None:
    """Each under a folder of its own; what git ignores is no part of it."""
    (work / ".gitignore").write_text("ignored\n")
    commit_all(work)
    (work / "ignored").write_text("x")
    (work / "link").symlink_to("code é.py")
    (work / "run").write_text("")
    (work / "run").chmod(0o755)
    commit_all(work)

    made = bundle.make(tool, work / "deep", head(work), allow_dirty=False)

    assert (made.entry, made.root, made.code_version) == ("tool", "work/deep", head(work))
    assert files(made) == {
        "tool/spot_backtest.sh": "#!/bin/sh\n",
        "work/.gitignore": "ignored\n",
        "work/code é.py": "print(1)\n",
        "work/deep/pipeline.toml": "",
        "work/link": "-> code é.py",
        "work/run": "",
    }
    with tarfile.open(fileobj=io.BytesIO(made.body)) as archive:
        assert archive.getmember("work/run").mode == 0o755
        assert archive.getmember("work/.gitignore").mode == 0o644


def test_one_repository_for_both_is_bundled_once(work: Path) -> None:
    """The example's table lies in the tool's own repository."""
    made = bundle.make(work, work / "deep", head(work), allow_dirty=False)
    assert (made.entry, made.root) == ("work", "work/deep")
    assert {name.split("/")[0] for name in files(made)} == {"work"}


def test_the_same_commit_is_the_same_bytes_wherever_it_lies(work: Path, tmp_path: Path) -> None:
    """So it is stored once, by its hash; times and places do not count."""
    subprocess.run([*GIT, "clone", "-q", str(work), str(tmp_path / "clone")], check=True)
    for path in (tmp_path / "clone").rglob("*.py"):
        os.utime(path, (1, 1))

    one, two = (
        bundle.make(folder, folder, head(work), allow_dirty=False)
        for folder in (work, tmp_path / "clone")
    )

    assert one == two
    assert one.key == f"_bundles/{one.sha256}.tar.gz"


@pytest.mark.parametrize("change", ["changed", "added", "deleted"])
def test_a_tree_with_changes_is_refused_or_bundled_under_its_own_hash(
    tool: Path, work: Path, change: str
) -> None:
    """I10: what ran is what its code version says; a changed tree's version ends in -dirty."""
    clean = bundle.make(tool, work, head(work), allow_dirty=True)
    path = work / {"added": "new.py"}.get(change, "code é.py")
    path.unlink() if change == "deleted" else path.write_text("print(2)\n")

    with pytest.raises(PreflightError, match="--allow-dirty") as caught:
        bundle.make(tool, work, f"{head(work)}-dirty", allow_dirty=False)
    assert path.name in str(caught.value)

    made = bundle.make(tool, work, f"{head(work)}-dirty", allow_dirty=True)
    assert made.code_version == f"{head(work)}-{made.sha256[:12]}-dirty"
    assert files(made).get(f"work/{path.name}") == (None if change == "deleted" else "print(2)\n")
    assert (clean.code_version, clean.sha256 != made.sha256) == (head(work), True)


def test_a_plain_folder_is_no_commit(tool: Path, tmp_path: Path) -> None:
    """It is refused, or taken without what never is code."""
    plain = tmp_path / "plain"
    for name in ("a.py", "artifacts/x", ".venv/y", "sub/__pycache__/z", "sub/b.py"):
        (plain / name).parent.mkdir(parents=True, exist_ok=True)
        (plain / name).write_text(name)
    with pytest.raises(PreflightError, match="no git repository"):
        bundle.make(tool, plain, "unknown", allow_dirty=False)
    made = bundle.make(tool, plain, "unknown", allow_dirty=True)
    assert {name for name in files(made) if name.startswith("work")} == {
        "work/a.py",
        "work/sub/b.py",
    }
    assert made.code_version == f"unknown-{made.sha256[:12]}-dirty"


def test_a_commit_that_moved_since_the_plan_is_refused(tool: Path, work: Path) -> None:
    """I10: the version in the records is that of the code."""
    planned = head(work)
    (work / "code é.py").write_text("print(3)\n")
    commit_all(work)
    with pytest.raises(PreflightError, match="changed since the plan"):
        bundle.make(tool, work, planned, allow_dirty=False)
    with pytest.raises(PreflightError, match="changed since the plan"):
        bundle.make(tool, work, f"{head(work)}-dirty", allow_dirty=False)


def test_a_hooks_repository_is_not_taken_for_ours(
    tool: Path, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GIT_DIR and its like are set while a hook runs."""
    monkeypatch.setenv("GIT_DIR", str(tool / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", "/nonexistent")
    made = bundle.make(work, work, head_of(work), allow_dirty=False)
    assert "work/deep/pipeline.toml" in files(made)


def head_of(folder: Path) -> str:
    """Return the commit of a repository, whatever GIT_DIR says."""
    return (folder / ".git" / "refs" / "heads").iterdir().__next__().read_text().strip()


def test_too_much_is_refused_with_the_largest_files(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Data belongs into the store."""
    monkeypatch.setattr(bundle, "MOST", 1 << 20)
    (work / "prices.csv").write_bytes(bytes(2 << 20))
    commit_all(work)
    with pytest.raises(PreflightError, match=r"work/prices.csv \(2 MiB\)"):
        bundle.make(work, work, head(work), allow_dirty=False)


def test_a_bundle_is_stored_once(s3: S3Lab, remote: Store, work: Path) -> None:
    """In one request, without a look before it."""
    made = bundle.make(work, work, head(work), allow_dirty=False)
    assert bundle.store_bundle(remote, made)
    assert not bundle.store_bundle(remote, made)
    found = remote.read(made.key)
    assert found is not None
    assert found[0] == made.body
