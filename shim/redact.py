"""Secrets out of a stream of bytes, however the stream is cut into pieces."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from shim.secret_forms import forms
from shim.secret_search import Search
from shim.secret_values import MASK, Secret

MASKED = MASK.encode()


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
        self._search = Search(self._values)
        self._reach = len(self._values[0]) if self._values else 1
        self._begins = _begins(self._values, self._reach)
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

        A regular expression of all secrets would try each of them at each byte.
        """
        wanted = self._search.candidates(data)
        found = [(at, -len(value)) for value in wanted for at in _places(value, data)]
        return [(start, start - length) for start, length in sorted(found)]

    def _undecided(self, data: bytes) -> list[int]:
        """Return every place, in order, from which the data is a proper beginning of a secret."""
        found = set()
        for number in self._begins.get(data[-2:], ()):
            index, length = divmod(number, self._reach)
            if length <= len(data) and data.endswith(self._values[index][:length]):
                found.add(len(data) - length)
        if data and data[-1:] in self._begins:
            found.add(len(data) - 1)
        return sorted(found)


def _places(value: bytes, data: bytes) -> Iterator[int]:
    place = data.find(value)
    while place >= 0:
        yield place
        place = data.find(value, place + 1)


def _begins(values: Sequence[bytes], reach: int) -> dict[bytes, list[int]]:
    """Return the proper beginnings of all values by their last two bytes, those of one byte by it.

    Each is a value's index and its own length in one number, for there are many.
    """
    found: dict[bytes, list[int]] = {}
    for index, value in enumerate(values):
        if len(value) > 1:
            found.setdefault(value[:1], [])
        for length in range(2, len(value)):
            found.setdefault(value[length - 2 : length], []).append(index * reach + length)
    return found
