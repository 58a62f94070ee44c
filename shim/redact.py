"""Secrets out of a stream of bytes, however the stream is cut into pieces."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from shim.secret_forms import forms
from shim.secret_values import MASK, Secret

MASKED = MASK.encode()
ANCHOR = 8  # bytes of letters and digits that are looked for in place of all forms with them
RUN = re.compile(rb"[A-Za-z0-9]+")


def masker(secrets: Iterable[Secret]) -> Masker:
    """Return what masks the secrets in each of their forms."""
    return Masker(form for value in {s.value for s in secrets} for form in forms(value))


class Masker:
    """Replaces each secret in a stream by `***`; at every place the longest one that fits.

    The output depends on the whole input alone, not on its pieces: it equals re.sub over
    everything. Only an end that may be the beginning of a secret is held back.
    """

    def __init__(self, values: Iterable[bytes]) -> None:
        self._values = sorted({value for value in values if value}, key=len, reverse=True)
        self._anchors = _anchors(self._values)
        self._begins = _begins(self._values)
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
        for start, end in self._matches(data):
            if start < position:
                continue
            if start >= hold:
                break
            done += (data[position:start], MASKED)
            position = end
            # A start that lies inside a replaced secret is none.
            hold = next((start for start in undecided if start >= position), len(data))
        self._held = data[hold:]
        done.append(data[position:hold])
        return b"".join(done)

    def flush(self) -> bytes:
        """Return what was held back; to be called at the end of the stream."""
        # A held end may begin like a longer secret and still hold a shorter one.
        data, self._held = self._held, b""
        done: list[bytes] = []
        position = 0
        for start, end in self._matches(data):
            if start >= position:
                done += (data[position:start], MASKED)
                position = end
        return b"".join((*done, data[position:]))

    def text(self, text: str) -> str:
        """Return a message without the secrets; it is no part of the stream."""
        for value in self._values:
            text = text.replace(value.decode("utf-8", "surrogateescape"), MASK)
        return text

    def _matches(self, data: bytes) -> list[tuple[int, int]]:
        """Return every place of every secret, by where they start, the longest first.

        A regular expression of all secrets would try each of them at each byte; a search for one
        skips most bytes, and most data holds not even an anchor.
        """
        there = {anchor for anchor in self._anchors if anchor in data}
        wanted = {value for anchor in there for value in self._anchors[anchor]}
        found = [(at, -len(value)) for value in wanted for at in _places(value, data)]
        return [(start, start - length) for start, length in sorted(found)]

    def _undecided(self, data: bytes) -> list[int]:
        """Return every place, in order, from which the data is a proper beginning of a secret."""
        found = {
            len(data) - length
            for value, length in self._begins.get(data[-2:], ())
            if length <= len(data) and data.endswith(value[:length])
        }
        if data and data[-1:] in self._begins:
            found.add(len(data) - 1)
        return sorted(found)


def _places(value: bytes, data: bytes) -> Iterator[int]:
    place = data.find(value)
    while place >= 0:
        yield place
        place = data.find(value, place + 1)


def _anchors(values: Iterable[bytes]) -> dict[bytes, list[bytes]]:
    """Return few texts of which each value holds one, with the values that do.

    The forms of one secret differ in its special characters most of all, so that the longest run
    of others stands for them; of those that hold each other the shortest does.
    """
    runs = {value: max(RUN.findall(value), key=len, default=b"") for value in values}
    by_run: dict[bytes, list[bytes]] = {}
    for value, run in runs.items():
        by_run.setdefault(run if len(run) >= ANCHOR else value, []).append(value)
    found: dict[bytes, list[bytes]] = {}
    for run in sorted(by_run, key=len):
        anchor = next((shorter for shorter in found if shorter in run), run)
        found.setdefault(anchor, []).extend(by_run[run])
    return found


def _begins(values: Iterable[bytes]) -> dict[bytes, list[tuple[bytes, int]]]:
    """Return the beginnings of all values by their last two bytes; those of one byte by it."""
    found: dict[bytes, list[tuple[bytes, int]]] = {}
    for value in values:
        if len(value) > 1:
            found.setdefault(value[:1], [])
        for length in range(2, len(value)):
            found.setdefault(value[length - 2 : length], []).append((value, length))
    return found
