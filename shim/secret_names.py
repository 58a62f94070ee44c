"""Which names are those of secrets: of variables, of options, of keys inside a value."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from shim.reader import Reader

PATTERNS = (
    "*_TOKEN",
    "*_PASSWORD",
    "*_SECRET*",
    "*_KEY",
    "*_PASS*",
    "*PASSWD*",
    "*_PWD",
    "PG*PASSWORD",
    "*_DSN",
    "*CREDENTIAL*",
    # The same words alone (not KEY and PWD: most often an object's key and a folder), and written
    # as one word.
    "TOKEN",
    "*PASSWORD",
    "SECRET",
    "PASS",
    "DSN",
    "*APIKEY",
    "*PASSPHRASE*",
    "*AUTHORIZATION",
    "*_AUTH",
    "*JWT",
)
KEYS = ("patterns", "allow", "allow_files")
WORD = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")  # in apiKey, before the K


@dataclass(frozen=True)
class SecretNames:
    """What a table says about secrets.

    A name is a secret's if one of `patterns` matches it and none of `allow` does; case makes no
    difference, nor do `-` and `.` in place of `_`, nor dashes before it. `allow_files` are files
    that a bundle may hold although they look like secrets.
    """

    patterns: tuple[str, ...] = PATTERNS
    allow: tuple[str, ...] = ()
    allow_files: tuple[str, ...] = ()

    def allowed(self, name: str) -> bool:
        """Return whether a name was exempted."""
        return _matches(name, self.allow)

    def secret(self, name: str) -> bool:
        """Return whether what is called so is a secret."""
        return _matches(name, self.patterns) and not self.allowed(name)


def parse(reader: Reader, table: Mapping[str, Any]) -> SecretNames:
    """Return what `redact` of a table says: a list of patterns, or a table of KEYS.

    Its patterns are added to the usual ones: a list of one must not switch off the others. Raises
    PipelineError.
    """
    section = table.get("redact", {})
    if not isinstance(section, dict):
        return SecretNames(patterns=_added(reader.texts(table, "redact", "")))
    where = " of redact"
    reader.keys(section, KEYS, where)
    return SecretNames(
        patterns=_added(reader.texts(section, "patterns", where)),
        allow=reader.texts(section, "allow", where),
        allow_files=reader.texts(section, "allow_files", where),
    )


def _added(patterns: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*PATTERNS, *patterns)))


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    spellings = {_plain(name), _plain(WORD.sub("_", name))}
    return any(
        fnmatchcase(spelling, _plain(pattern)) for pattern in patterns for spelling in spellings
    )


def _plain(name: str) -> str:
    """Return a name in the spelling in which names are compared; a [set] of a pattern stays."""
    upper = name.lstrip("-").upper()
    return upper if "[" in upper else upper.replace("-", "_").replace(".", "_")
