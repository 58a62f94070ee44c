"""Changes to the shim for a test alone, carried to every process that it starts.

`sitecustomize` (docs.python.org/3/library/site.html) is imported by every Python that has the
folder on PYTHONPATH; as each named module has been imported, its text runs in it.
"""

from __future__ import annotations

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


def patches(folder: Path, texts: Mapping[str, str]) -> dict[str, str]:
    """Return the environment in which the texts change the modules that they are keyed by."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sitecustomize.py").write_text(SITE.format(texts=dict(texts)))
    return {"PYTHONPATH": str(folder)}
