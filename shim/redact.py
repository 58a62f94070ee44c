"""Secrets out of a stream of bytes, however the stream is cut into pieces."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

MASK = b"***"
SHORTEST = 4
SHORTEST_LINE = 8


def secrets(env: Mapping[str, str], patterns: Sequence[str]) -> list[bytes]:
    """Return the values to mask: of every variable whose name matches a pattern, case and all.

    A value of several lines counts as a whole and line by line (lines of 8 bytes and more), for a
    program may print it indented. Values shorter than 4 bytes are not masked: they would blot out
    ordinary text. What a program makes of a value (base64, URL encoding) is not recognised.
    """
    found: set[bytes] = set()
    for name, text in env.items():
        if not any(fnmatchcase(name, pattern) for pattern in patterns):
            continue
        value = os.fsencode(text)
        found.update(v for v in (value, value.strip()) if len(v) >= SHORTEST)
        lines = value.splitlines()
        if len(lines) > 1:
            found.update(v for v in map(bytes.strip, lines) if len(v) >= SHORTEST_LINE)
    return sorted(found)


class Masker:
    """Replaces each secret in a stream by `***`; at every place the longest one that fits.

    The output depends on the whole input alone, not on its pieces: it equals re.sub over
    everything. Only an end that may be the beginning of a secret is held back.
    """

    def __init__(self, values: Iterable[bytes]) -> None:
        self._values = sorted({value for value in values if value}, key=len, reverse=True)
        self._pattern = re.compile(b"|".join(map(re.escape, self._values)))
        self._reach = len(self._values[0]) - 1 if self._values else 0
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """Return what can be passed on now."""
        if not self._values:
            return data
        data = self._held + data if self._held else data
        undecided = self._undecided(data)
        done: list[bytes] = []
        position = 0
        hold = undecided[0] if undecided else len(data)
        if any(value in data for value in self._values):
            for match in self._pattern.finditer(data):
                if match.start() >= hold:
                    break
                done += (data[position : match.start()], MASK)
                position = match.end()
                # A start that lies inside a replaced secret is none.
                hold = next((start for start in undecided if start >= position), len(data))
        self._held = data[hold:]
        done.append(data[position:hold])
        return b"".join(done)

    def flush(self) -> bytes:
        """Return what was held back; to be called at the end of the stream."""
        # A held end may begin like a longer secret and still hold a shorter one.
        data, self._held = self._held, b""
        return self._pattern.sub(MASK, data) if data else data

    def _undecided(self, data: bytes) -> list[int]:
        """Return every place, in order, from which the data is a proper beginning of a secret."""
        first = max(0, len(data) - self._reach)
        found = set()
        for value in self._values:
            start = data.find(value[:1], max(first, len(data) - len(value) + 1))
            while start >= 0:
                if value.startswith(data[start:]):
                    found.add(start)
                start = data.find(value[:1], start + 1)
        return sorted(found)
