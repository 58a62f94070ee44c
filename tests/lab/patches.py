"""Changes to the shim for a test alone, carried to every process that it starts.

`sitecustomize` (docs.python.org/3/library/site.html) is imported by every Python that finds it; as
each named module has been imported, its text runs in it. The shim's interpreter does not look at
PYTHONPATH (`-I`), so it gets a virtual environment of its own that holds sitecustomize.
"""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path

SITE = """
import sys
from importlib.machinery import PathFinder

TEXTS = {texts!r}


class Finder:
    def find_spec(self, name, path=None, target=None):
        spec = PathFinder.find_spec(name, path, target) if name in TEXTS else None
        if spec is not None:
            run = spec.loader.exec_module

            def exec_module(module):
                run(module)
                exec(compile(TEXTS[name], f"<a test's change of {{name}}>", "exec"), vars(module))

            spec.loader.exec_module = exec_module
        return spec


sys.meta_path.insert(0, Finder())
"""


def sitecustomize(folder: Path, texts: Mapping[str, str]) -> Path:
    """Write a module sitecustomize that changes the modules that the texts are keyed by."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sitecustomize.py").write_text(SITE.format(texts=dict(texts)))
    return folder


def patches(folder: Path, texts: Mapping[str, str]) -> dict[str, str]:
    """Return the environment in which the texts change the modules that they are keyed by."""
    return {"SPOT_BACKTEST_PYTHON": str(interpreter(folder, texts))}


def interpreter(folder: Path, texts: Mapping[str, str]) -> Path:
    """Return this Python with its packages, in a virtual environment that has the texts.

    It is what `venv` makes, without pip (docs.python.org/3/library/venv.html), in a millisecond.
    """
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = sitecustomize(folder / "lib" / version / "site-packages", texts)
    (packages / "the_tests.pth").write_text(sysconfig.get_path("purelib") + "\n")
    base = Path(sys._base_executable)  # type: ignore[attr-defined]  # what venv itself asks
    alone = "include-system-site-packages = false"  # it is true where nothing says so
    (folder / "pyvenv.cfg").write_text(f"home = {base.parent}\n{alone}\n")
    python = folder / "bin" / "python"
    python.parent.mkdir(exist_ok=True)
    if not python.is_symlink():
        python.symlink_to(base)
    return python
