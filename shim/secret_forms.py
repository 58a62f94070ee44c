"""How a secret may look in a text: as it is, and as programs encode it."""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Iterator
from urllib.parse import quote, quote_plus

SHORTEST = 6  # characters: what is shorter would blot out ordinary text
SHORTEST_LINE = 8  # bytes
LONGEST = 1024  # bytes: what is longer is masked piece by piece, so that little has to be kept
PIECE = 512  # bytes
MOST_ENCODED = 4096  # characters of a value that is looked for in URLs
# What quote() is told to leave as it is: nothing, its own default, and what JavaScript's
# encodeURIComponent leaves (ECMA-262, 19.2.6.4).
SAFE = ("", "/", "!'()*")
WRAPPED = (64, 76)  # columns of base64's lines: RFC 7468, RFC 2045 and the program base64


def long_enough(value: str) -> bool:
    """Return whether a value can be masked, spaces around it not counted."""
    return len(value.strip()) >= SHORTEST


def forms(value: str) -> set[bytes]:
    """Return every form in which a value is masked; none if it is too short.

    A value of several lines counts as a whole and line by line (lines of 8 bytes and more), for a
    program may print it indented.
    """
    if not long_enough(value):
        return set()
    try:
        os.fsencode(value)
    except UnicodeEncodeError:  # half of a character, out of JSON: no program can have it
        return set()
    found: set[bytes] = set()
    for text in {value, value.strip()}:
        raw = os.fsencode(text)
        found.add(raw)
        if len(text) <= MOST_ENCODED:
            found.update(_url_encoded(raw))
        found.update(_quoted(text))
        found.update(_base64(raw))
    lines = os.fsencode(value).splitlines()
    if len(lines) > 1:
        found.update(line for line in map(bytes.strip, lines) if len(line) >= SHORTEST_LINE)
    return {piece for form in found for piece in _pieces(form)}


def _pieces(form: bytes) -> Iterator[bytes]:
    """Yield a form whole, or in pieces none of which is short."""
    start = 0
    while len(form) - start > LONGEST:
        yield form[start : start + PIECE]
        start += PIECE
    yield form[start:]


def _url_encoded(raw: bytes) -> Iterator[bytes]:
    texts = {quote(raw, safe=safe) for safe in SAFE} | {quote_plus(raw)}
    for text in texts:
        yield text.encode()
        yield re.sub("%[0-9A-F]{2}", lambda match: match[0].lower(), text).encode()


def _quoted(text: str) -> Iterator[bytes]:
    """Yield a text as it stands between the quotes of JSON, of Python and of a shell."""
    for ascii_only in (True, False):
        inner = json.dumps(text, ensure_ascii=ascii_only)[1:-1]
        yield _bytes(inner)
        yield _bytes(inner.replace("/", "\\/"))  # PHP, and what goes into HTML
        for sign in "<>&":  # Go's encoding/json
            inner = inner.replace(sign, f"\\u{ord(sign):04x}")
        yield _bytes(inner)
    yield _bytes(repr(text)[1:-1])
    yield _bytes(text.replace("'", "'\\''"))
    yield _bytes(text.replace("'", "'\"'\"'"))


def _base64(raw: bytes) -> Iterator[bytes]:
    """Yield what base64 makes of a value at each of the three places where it can begin.

    A character stands for six bits (RFC 4648), so the ones at the edges may hold bits of what is
    beside the value: they are left out, or those of an end that nothing follows are added.
    """
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        for before in range(3):
            encoded = encode(bytes(before) + raw)
            first = -(-before * 8 // 6)
            core = encoded[first : (before + len(raw)) * 8 // 6]
            yield from (core, encoded[first:].rstrip(b"="), encoded[first:])
        core = encode(raw)[: len(raw) * 8 // 6]
        for width in WRAPPED:
            if len(core) > width:
                pieces = (core[start : start + width] for start in range(0, len(core), width))
                yield from (piece for piece in pieces if len(piece) >= SHORTEST_LINE)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
