"""`{run_date}`-style fields in a stage's command: what they are called and how they are filled.

A field that the plan knows is bound in the plan; `{artifacts_dir}` and `{python}` are known only
where the stage runs and are filled there. `{{` and `}}` stand for plain braces until then, so a
value that holds a brace is never read as a field.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

FIELDS = ("run_date", "execution_id", "stage", "store", "artifacts_uri", "artifacts_dir", "python")
INPUT_FIELDS = ("run_date", "execution_id", "stage")
TOKEN = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")


def unknown_field(text: str, known: Collection[str]) -> str | None:
    """Return the first thing in braces that is no known field, or None."""
    for match in TOKEN.finditer(text):
        if match[0] not in ("{{", "}}") and match[1] not in known:
            return match[1] or match[0]
    return None


def escape(text: str) -> str:
    """Return a text in which every brace stands for itself."""
    return text.replace("{", "{{").replace("}", "}}")


def bind(text: str, values: Mapping[str, str]) -> str:
    """Fill the fields that `values` has, escaped; everything else stays as it is written."""
    return TOKEN.sub(lambda m: escape(values[m[1]]) if m[1] in values else m[0], text)


def fill(text: str, values: Mapping[str, str]) -> str:
    """Fill the last fields and turn doubled braces into plain ones."""
    return TOKEN.sub(lambda m: m[0][0] if m[0] in ("{{", "}}") else values[m[1]], text)
