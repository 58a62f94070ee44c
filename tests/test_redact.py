"""Secrets are masked in a stream, wherever it is cut."""

from __future__ import annotations

import re
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from shim.redact import MASKED, Masker

# Few letters, so that secrets overlap, contain and repeat each other.
FEW = st.text(alphabet="ab*", min_size=1, max_size=7).map(str.encode)
PIECES = st.lists(st.text(alphabet="ab*\n", max_size=9).map(str.encode), max_size=12)


def at_once(values: Sequence[bytes], whole: bytes) -> bytes:
    """Return what masking is: at every place the longest secret, over the whole text."""
    longest_first = sorted(values, key=len, reverse=True)
    return re.sub(b"|".join(map(re.escape, longest_first)), MASKED, whole) if values else whole


@given(st.lists(FEW, max_size=4), PIECES)
def test_the_output_does_not_depend_on_where_the_input_is_cut(
    values: list[bytes], pieces: list[bytes]
) -> None:
    """Any secrets, any text, any cuts: the same as re.sub over everything at once."""
    masker = Masker(values)
    got = b"".join(map(masker.feed, pieces)) + masker.flush()
    assert got == at_once(values, b"".join(pieces))


@given(st.lists(FEW, min_size=1, max_size=4), PIECES)
def test_nothing_is_held_back_but_what_may_become_a_secret(
    values: list[bytes], pieces: list[bytes]
) -> None:
    """A prompt shows at once, unless its end is the proper beginning of a secret."""
    masker = Masker(values)
    got = b"".join(map(masker.feed, pieces))
    whole = b"".join(pieces)
    ends = {whole[start:] for start in range(len(whole))}
    begins = {value[:length] for value in values for length in range(1, len(value))}
    if not ends & begins:
        assert got == at_once(values, whole)


def test_a_secret_is_masked_across_every_pair_of_cuts() -> None:
    """Three pieces, every way to cut them."""
    text = b"before hunter22hunter2 after"
    for first in range(len(text)):
        for second in range(first, len(text)):
            masker = Masker([b"hunter2"])
            pieces = (text[:first], text[first:second], text[second:])
            got = b"".join(map(masker.feed, pieces)) + masker.flush()
            assert got == b"before ***2*** after"


def test_without_secrets_the_bytes_are_passed_on_as_they_are() -> None:
    """The same object: nothing is copied."""
    data = b"anything"
    assert Masker([]).feed(data) is data
