"""Times an environment that an instance restores beside venv and `pip install` of the same locks.

Usage: python -m benchmarks.environment
`make bench` runs it after run.py's jobs: minutes, and 6 GB in TMPDIR. It needs requirements/dev.txt
for the lab's S3 and metadata service; the rest of the instance is infrastructure/bootstrap.sh,
called at `environment` instead of `main`. All is taken in turn; the ratio is what to quote.

Nothing is removed before the end: for minutes ext4 passes over the inodes of removed files, one by
one and for every new file (recently_deleted() in fs/ext4/ialloc.c), which cost up to 10 s a run.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

from tests.instances import Instance, Lab
from tests.lab import s3_lab
from tests.lab.imds import Imds
from tests.lab.machine import SYSTEM

ROOT = Path(__file__).resolve().parent.parent
BOOTSTRAP = (ROOT / "infrastructure" / "bootstrap.sh").read_text()
LOCKS = ("requirements/run.txt", "requirements/example.txt")
PIP = (
    *("--quiet", "--disable-pip-version-check", "--no-input", "--require-hashes"),
    *(f"--requirement={ROOT / lock}" for lock in LOCKS),
)
TAGS = {
    "spot-backtest:launch": "s3://lab/backtest/2026-05-17/_stages/_launches/bench.json",
    "spot-backtest:region": "us-east-1",
}
ROUNDS = 5
COLD, WARM = "pip install, nothing cached", "pip install, wheels cached"
RESTORED, ARCHIVED = "restored", "made and archived, the first time"
USED, USED_RESTORED = "first import, installed", "first import, restored"
# What the shim and the example's stages import; then all that is installed, to be compared.
IMPORTS = """
import backtesting, boto3, click, matplotlib.pyplot, pandas, tree_sitter_bash, yaml
from importlib.metadata import distributions
print(sorted((d.name, d.version) for d in distributions() if d.name not in ("pip", "setuptools")))
"""


def run(*command: str | Path, **env: str | Path) -> tuple[float, str]:
    """Return the seconds that a command took, and all that it said."""
    os.sync()  # what the one before has written is not for this one to wait for
    start = time.perf_counter()
    ran = subprocess.run(
        command,
        env={**os.environ, **{name: str(value) for name, value in env.items()}},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    took = time.perf_counter() - start
    if ran.returncode:
        raise SystemExit(f"{command} left with {ran.returncode}:\n{ran.stdout}")
    return took, ran.stdout


def pip(command: str, python: Path, *options: str) -> float:
    """Return the seconds that pip took with the locks."""
    return run(python, "-m", "pip", command, *PIP, *options)[0]


def install(python: Path, folder: Path, *options: str) -> float:
    """Return the seconds of the plain way: an empty environment, then pip."""
    made, _ = run(python, "-m", "venv", folder)
    return made + pip("install", folder / "bin" / "python", *options)


class Instances:
    """One after the other, each new and at the same place, as an archive asks for it."""

    def __init__(self, folder: Path, imds: str) -> None:
        self.folder, self.imds, self.ended = folder, imds, 0
        self.home, self.code = folder / "instance" / "home", folder / "instance" / "code"
        self.python = self.code / ".venv" / "bin" / "python"
        self.script = folder / "environment.sh"
        text, main, rest = BOOTSTRAP.rpartition("\nmain\n")
        if not main or rest:
            raise SystemExit("bootstrap.sh does not end in main, which shuts its machine down")
        self.script.write_text(text + '\nhelper_text >"$HELPER"\nenvironment "$1"\n')

    def boot(self, expected: str) -> float:
        """Return the seconds until an instance has its environment, "archived" or "restored"."""
        if self.home.exists():
            self.ended += 1
            self.home.parent.rename(self.folder / f"ended-{self.ended}")
        self.home.mkdir(parents=True)
        (self.home / "record.json").write_text(json.dumps({"locks": LOCKS}))
        for name in (*LOCKS, "infrastructure/environment.sh"):
            (self.code / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, self.code / name)
        took, said = run(
            *("bash", self.script, self.code),
            PATH=f"{sys.base_prefix}/bin:{SYSTEM}",
            AWS_EC2_METADATA_SERVICE_ENDPOINT=self.imds,
            SPOT_HOME=self.home,
            SPOT_LOG=self.home / "log",
            SPOT_BACKTEST_PYTHON="",
        )
        if f"bootstrap: {expected} _environments/" not in said:
            raise SystemExit(f"nothing was {expected}:\n{said}")
        return took


def measure(folder: Path, instances: Instances) -> dict[str, list[float]]:
    """Archive an environment, then install and restore it in turn; return all seconds."""
    took: dict[str, list[float]] = {name: [] for name in (COLD, WARM, RESTORED, ARCHIVED)}
    took |= {USED: [], USED_RESTORED: []}
    took[ARCHIVED].append(instances.boot("archived"))
    python = instances.python.resolve()
    cache = f"--cache-dir={folder / 'cache'}"
    run(python, "-m", "venv", folder / "pip")  # for what uv has archived there is none in
    wheels = f"--dest={folder / 'wheels'}"
    pip("download", folder / "pip" / "bin" / "python", "--no-deps", cache, wheels)
    for number in range(ROUNDS):
        cold, warm = folder / f"cold-{number}", folder / f"warm-{number}"
        took[COLD].append(install(python, cold, "--no-cache-dir"))
        took[WARM].append(install(python, warm, cache))
        took[RESTORED].append(instances.boot("restored"))
        seconds, installed = run(cold / "bin" / "python", "-c", IMPORTS)
        took[USED].append(seconds)
        seconds, restored = run(instances.python, "-c", IMPORTS)
        took[USED_RESTORED].append(seconds)
        if installed != restored:
            raise SystemExit(f"not the same:\n{installed}{restored}")
    return took


def main() -> None:
    """Measure and print; nothing is left afterwards."""
    with tempfile.TemporaryDirectory() as name, s3_lab() as s3:
        folder = Path(name).resolve()
        s3.make_bucket("lab")
        tags = {**TAGS, "spot-backtest:endpoint": s3.url}
        with closing(Imds(Instance(tags=tags), b"", Lab())) as imds:
            imds.on()
            instances = Instances(folder, imds.url)
            took = measure(folder, instances)
        wheels = [file.stat().st_size for file in (folder / "wheels").iterdir()]
        archive = (instances.home / "environment").stat().st_size
    ours = statistics.median(took[RESTORED])
    print(f"{'environment':<38} {'median':>8} {'min':>8} {'max':>8} {'/ restored':>10}")
    for what, each in took.items():
        middle = statistics.median(each)
        columns = " ".join(f"{value:>6.2f} s" for value in (middle, min(each), max(each)))
        ratio = "" if what in (USED, USED_RESTORED) else f" {middle / ours:>10.1f}"
        print(f"{what:<38} {columns}{ratio}")
    for what, size in ((f"{len(wheels)} wheels", sum(wheels)), ("archive", archive)):
        print(f"{what + ', on the wire':<38} {size / 1e6:>5.1f} MB {size / archive:>28.1f}")


if __name__ == "__main__":
    main()
