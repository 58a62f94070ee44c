"""Which of many texts a piece of data may hold, at about the same cost for few and for many."""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Collection, Iterator

ANCHOR = 8  # bytes of letters and digits that are looked for in place of all texts with them
RUN = re.compile(rb"[A-Za-z0-9]+")
FEW = 32  # anchors that are looked for one by one
WORD = 4  # bytes of an array's item
SURE = 2 * WORD - 1  # bytes in a row of which some make an item of the array, wherever they begin
LOOKED_AT = 64  # bytes of an anchor among which its rarest are chosen


class Search:
    """Finds those texts that data may hold; nothing that it does hold is left out.

    Each is represented by a part of it, its anchor. Few anchors are looked for one by one, which
    skips most of the data. For many, the data is read once, as numbers of four bytes.
    """

    def __init__(self, texts: Collection[bytes]) -> None:
        self._texts = _by_anchor(texts)
        self._singly = list(self._texts)
        self._by_word: dict[int, list[bytes]] = {}
        if len(self._texts) > FEW:
            self._singly = [anchor for anchor in self._texts if len(anchor) < SURE]
            longer = [anchor for anchor in self._texts if len(anchor) >= SURE]
            counts = Counter(word for anchor in longer for word in _words(anchor))
            for anchor in longer:
                for word in _rarest(anchor, counts):
                    self._by_word.setdefault(word, []).append(anchor)
        self._words = set(self._by_word)

    def candidates(self, data: bytes) -> set[bytes]:
        """Return the texts whose anchors are in the data."""
        found = {anchor for anchor in self._singly if anchor in data}
        if self._words:
            numbers = array("I", data[: len(data) // WORD * WORD])
            for word in self._words.intersection(numbers):
                found.update(anchor for anchor in self._by_word[word] if anchor in data)
        return {text for anchor in found for text in self._texts[anchor]}


def _by_anchor(texts: Collection[bytes]) -> dict[bytes, list[bytes]]:
    """Return the texts by the part that is looked for.

    The forms of one secret differ in its special characters most of all, so that the longest run
    of others stands for them; of those that hold each other the shortest does.
    """
    by_run: dict[bytes, list[bytes]] = {}
    for text in texts:
        run = max(RUN.findall(text), key=len, default=b"")
        by_run.setdefault(run if len(run) >= ANCHOR else text, []).append(text)
    if len(by_run) > FEW * FEW:  # to compare them all takes too long, and gains little
        return by_run
    found: dict[bytes, list[bytes]] = {}
    for run in sorted(by_run, key=len):
        anchor = next((shorter for shorter in found if shorter in run), run)
        found.setdefault(anchor, []).extend(by_run[run])
    return found


def _words(anchor: bytes) -> Iterator[int]:
    """Yield the number of each four bytes of the beginning of an anchor."""
    for phase in range(WORD):
        part = anchor[phase : phase + LOOKED_AT]
        yield from array("I", part[: len(part) // WORD * WORD])


def _rarest(anchor: bytes, counts: Counter[int]) -> set[int]:
    """Return the numbers of one of which data with the anchor holds at least one.

    Four in a row, for the array's items begin at every fourth byte only.
    """
    part = anchor[:LOOKED_AT]
    numbers = [array("I", part[at : at + WORD])[0] for at in range(len(part) - WORD + 1)]
    rows = [numbers[at : at + WORD] for at in range(len(numbers) - WORD + 1)]
    return set(min(rows, key=lambda row: max(counts[number] for number in row)))
