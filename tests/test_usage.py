"""CPU time and memory of a command, from whatever the system tells."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from shim.usage import UNIT, UsageMeter
from tests.children import python, wrapped

WORK = "import time\nkept = bytearray(200 << 20)\nend = time.process_time() + 0.4\n"
WORK += "while time.process_time() < end: pass"


def test_the_time_and_the_memory_of_a_command_and_of_its_children_are_told(tmp_path: Path) -> None:
    """User and system time of all that were waited for, and the largest of them."""
    command = ["sh", "-c", f"{sys.executable} -c '{WORK}'; true"]
    with wrapped(tmp_path, command) as ran:
        assert ran.wait() == 0
    usage = ran.result()["usage"]
    assert 0.4 <= usage["cpu_seconds"] < 20
    assert 200 << 20 < usage["memory_peak_bytes"] < 400 << 20
    assert usage["memory_of"] in ("cgroup", "largest process")


def test_a_command_that_cannot_start_has_no_usage(tmp_path: Path) -> None:
    """There is nothing to measure."""
    with wrapped(tmp_path, ["/no/such/program"]) as ran:
        assert ran.wait() == 127
    assert ran.result()["usage"] is None


def test_each_of_two_commands_has_its_own_time(tmp_path: Path) -> None:
    """What came before does not count."""
    with wrapped(tmp_path, [], all_of=[python(WORK), ["true"]]) as ran:
        assert ran.wait() == 0
    assert ran.result()["usage"]["cpu_seconds"] < 0.4


@pytest.fixture
def cgroups(tmp_path: Path) -> tuple[Path, Path]:
    """A tree as cgroup2 shows it, for this process in /a/b, and what says so."""
    root, own = tmp_path / "cgroup", tmp_path / "own"
    (root / "a" / "b").mkdir(parents=True)
    for folder in (root, root / "a", root / "a" / "b"):
        (folder / "cgroup.subtree_control").write_text("cpu memory\n")
    own.write_text("4:memory:/old\n0::/a/b\n")
    return root, own


def test_without_a_cgroup_of_its_own_it_is_the_largest_process(
    cgroups: tuple[Path, Path], tmp_path: Path
) -> None:
    """No delegation, no memory controller, no file, another root: nothing is left behind."""
    root, own = cgroups
    (root / "a" / "cgroup.subtree_control").write_text("cpu\n")
    for at, who in ((root, own), (tmp_path / "none", own), (root, tmp_path / "none")):
        meter = UsageMeter(at, who)
        subprocess.run(["true"], check=True)
        found = meter.read()
        meter.enter()
        meter.close()
        assert found.memory_of == "largest process"
        assert found.memory_peak_bytes % UNIT == 0
    assert [p.name for p in (root / "a").iterdir() if p.is_dir()] == ["b"]


@pytest.mark.parametrize("writable", [True, False])
def test_a_cgroup_that_cannot_count_is_removed_at_once(
    cgroups: tuple[Path, Path], writable: bool
) -> None:
    """An old kernel has no memory.peak; a folder may be read-only."""
    root, own = cgroups
    try:
        os.setxattr(root / "a", "user.delegate", b"1")
    except OSError:
        pytest.skip("the file system has no user attributes")
    if not writable:
        (root / "a" / f"spot_backtest-{os.getpid()}").touch()
    meter = UsageMeter(root, own)
    assert meter.read().memory_of == "largest process"
    meter.close()
    assert [p.name for p in (root / "a").iterdir() if p.is_dir()] == ["b"]
