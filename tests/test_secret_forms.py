"""A secret is masked in the forms that programs give it."""

from __future__ import annotations

import base64
import itertools
import json
import os
import shlex
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shim.redact import masker
from shim.secret_forms import forms
from shim.secret_values import Secret

VALUE = "p@ss/w0rd+é 'x' \"y\" <&>"
VALUES = st.text(
    st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=6, max_size=60
).filter(lambda text: len(text.strip()) >= 6)
AROUND = st.binary(max_size=5)
ENCODINGS: dict[str, Callable[[str], str]] = {
    "quote": quote,
    "quote of all": lambda text: quote(text, safe=""),
    "quote_plus": quote_plus,
    "lower hex": lambda text: quote(text, safe="").replace("%2F", "%2f").replace("%C3", "%c3")
    .replace("%2B", "%2b").replace("%A9", "%a9").replace("%3C", "%3c").replace("%3E", "%3e"),
    "encodeURIComponent": lambda text: quote(text, safe="!'()*"),
    "JSON": lambda text: json.dumps(text)[1:-1],
    "JSON in UTF-8": lambda text: json.dumps(text, ensure_ascii=False)[1:-1],
    "JSON of PHP": lambda text: json.dumps(text)[1:-1].replace("/", "\\/"),
    "JSON of Go": lambda text: json.dumps(text)[1:-1].replace("<", "\\u003c")
    .replace("&", "\\u0026").replace(">", "\\u003e"),
    "Python": lambda text: repr(text)[1:-1],
    "shell": lambda text: shlex.quote(text)[1:-1],
}  # fmt: skip


def masked(text: bytes, *values: str) -> bytes:
    """Return a text as a log has it."""
    mask = masker(Secret("X", value) for value in values)
    return mask.feed(text) + mask.flush()


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_an_encoded_secret_is_masked(encoding: str) -> None:
    """I56: as a part of a URL, of JSON, of a command that is printed."""
    text = ENCODINGS[encoding](VALUE)
    assert masked(f"before {text} after".encode(), VALUE) == b"before *** after"


@given(VALUES, AROUND, AROUND)
def test_base64_is_masked_wherever_the_secret_begins_in_it(
    value: str, before: bytes, after: bytes
) -> None:
    """I56: as in `Authorization: Basic`; no more is left than the characters at its edges."""
    raw = value.encode()
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        text = encode(before + raw + after)
        shown = masked(text, value)
        assert b"***" in shown
        edges = -(-(len(before) + len(after)) * 8 // 6) + 4 + 3  # and padding
        assert len(shown.replace(b"***", b"")) <= edges


@given(VALUES)
def test_base64_of_a_secret_alone_leaves_nothing(value: str) -> None:
    """With its padding and without."""
    text = base64.b64encode(value.encode())
    assert masked(text, value) == masked(text.rstrip(b"="), value) == b"***"


@pytest.mark.parametrize("width", [64, 76])
def test_base64_in_lines_is_masked_line_by_line(width: int) -> None:
    """As the program base64 and MIME print a long value."""
    value = "long-secret-" * 20
    text = base64.b64encode(value.encode())
    lines = b"\n".join(text[i : i + width] for i in range(0, len(text), width))
    assert set(masked(lines, value).split(b"\n")) == {b"***"}


@given(VALUES, st.lists(st.integers(0, 400), max_size=6))
def test_the_forms_are_masked_however_they_are_cut(value: str, cuts: list[int]) -> None:
    """The same as in one piece."""
    text = b" ".join(os.fsencode(encode(value)) for encode in ENCODINGS.values())
    mask = masker([Secret("X", value)])
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [text[a:b] for a, b in itertools.pairwise(places)]
    assert b"".join(map(mask.feed, pieces)) + mask.flush() == masked(text, value)


def test_what_no_program_can_print_is_no_secret() -> None:
    """JSON may hold half of a character; it stops nothing."""
    assert forms("half of \ud800 one") == set()


@pytest.mark.parametrize("value", ["", "abc", "short", "  abc  ", "ééééé"])
def test_a_value_of_less_than_six_characters_is_not_masked(value: str) -> None:
    """It would blot out ordinary words."""
    assert forms(value) == set()


def test_no_form_is_so_short_that_it_blots_out_words() -> None:
    """Six bytes at least, the encoded ones too."""
    assert min(map(len, forms("secret"))) >= 6


def test_a_secret_of_several_lines_is_masked_whole_and_line_by_line() -> None:
    """A key in PEM form is often printed indented."""
    key = "-----BEGIN KEY-----\nc2VjcmV0LTE=\nc2VjcmV0LTI=\n-----END KEY-----\n"
    assert masked(f"{key}  c2VjcmV0LTE=\n".encode(), key) == b"***  ***\n"


def test_a_value_that_is_not_utf_8_is_masked() -> None:
    """The environment holds bytes; Python shows them with surrogates."""
    raw = b"caf\xe9-caf\xe9"
    assert masked(raw + b" caf%E9-caf%E9", os.fsdecode(raw)) == b"*** ***"


def test_a_message_is_masked_too() -> None:
    """What is no stream: an error, a receipt."""
    assert masker([Secret("X", VALUE)]).text(f"no {VALUE!r} here") == "no '***' here"


def test_a_very_long_secret_is_masked_piece_by_piece() -> None:
    """Whole, in base64 and in JSON; what is kept in memory for it stays little."""
    value = "".join(f"{number:05}\n" for number in range(1000))
    raw = value.encode()
    for text in (raw, base64.b64encode(raw), json.dumps(value)[1:-1].encode()):
        assert set(masked(text, value)) == {ord("*")}
    assert max(map(len, forms(value))) <= 1024
