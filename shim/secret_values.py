"""The secrets of an environment and of a command line, by names and by what a value says itself."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import unquote, unquote_plus

from shim.secret_forms import long_enough
from shim.secret_names import SecretNames

MASK = "***"
LONGEST_NAME = 60  # characters, and
MOST_NAMES = 20  # names of a line that a person reads
TOKEN_LENGTH = 20  # a user's name of so many characters, without a password, is a token
URL = re.compile(r"(?<![A-Za-z0-9+.-])([A-Za-z][A-Za-z0-9+.-]*)://([^\s\"'<>]+)")
WHOLE_URL = re.compile(r"\s*([A-Za-z][A-Za-z0-9+.-]*)://(\S+)\s*")
PORT = re.compile(r"[^:]*:[0-9]+(?:[/?#]|$)")
# `password=x` of a connection string or a query, `"password": "x"` of JSON, `X-Api-Key: x` of a
# header, `--password x` of a command; quoted or not.
VALUE = r"""(?:"(?P<double>(?:[^"\\]|\\.)*)"|'(?P<single>[^']*)'|(?P<bare>[^\s;&,"']+))"""
PAIR = re.compile(
    r"(?<![\w.-])(?P<flag>-{0,2})(?P<key>[A-Za-z_][\w.-]*)"
    r"(?:[\"']?\s*=\s*|[\"']\s*:\s*|:\s+)(?:(?:Bearer|Basic|Token)\s+)?" + VALUE,
    re.IGNORECASE,
)
FLAG = re.compile(r"(?<![\w.-])(?P<flag>--)(?P<key>[A-Za-z_][\w.-]*)\s+(?!-)" + VALUE)


@dataclass(frozen=True)
class Secret:
    """A value, and the name under which its user knows it: `API_TOKEN`, `--api-token`."""

    name: str
    value: str


@dataclass(frozen=True)
class _Span:
    """Where in a text a secret lies."""

    name: str
    start: int
    end: int


def environment_secrets(env: Mapping[str, str], names: SecretNames) -> list[Secret]:
    """Return the values of variables with a secret's name, and what lies inside of any value.

    That is the password of a URL and what a key with a secret's name is set to. A path of
    something that exists is no secret, but what lies there.
    """
    found: list[Secret] = []
    for variable, text in env.items():
        if names.allowed(variable):
            continue
        if names.secret(variable) and not _is_path(text):
            found.append(Secret(variable, text))
        found += [s for span in _inside(text, names) for s in _secrets(variable, text, span)]
    return [secret for secret in found if long_enough(secret.value)]


def command_secrets(
    words: Sequence[str], names: SecretNames, flags: Mapping[str, str] | None = None
) -> list[Secret]:
    """Return the values of flags with a secret's name, and what lies inside of any word.

    `flags` are flags of the command whose values are secrets whatever they are called, with the
    name of each for its user.
    """
    found = [
        secret
        for number, span in _of_words(words, names, flags or {})
        for secret in _secrets(span.name, words[number], span)
    ]
    return [secret for secret in found if long_enough(secret.value)]


def masked_command(
    words: Sequence[str], names: SecretNames, flags: Mapping[str, str] | None = None
) -> tuple[str, ...]:
    """Return a command with `***` for each secret, however short."""
    masked = list(words)
    spans = sorted(_of_words(words, names, flags or {}), key=lambda found: -found[1].start)
    done = [len(word) for word in words]
    for number, span in spans:  # from the right, so that the places to the left stay what they are
        word, end = masked[number], min(span.end, done[number])
        if span.start < end:
            masked[number] = f"{word[: span.start]}{MASK}{word[end:]}"
            done[number] = span.start
    return tuple(masked)


def masked_line(secrets: Iterable[Secret]) -> str:
    """Return a line that names what is masked, or nothing."""
    found = [_readable(name) for name in dict.fromkeys(secret.name for secret in secrets)]
    if not found:
        return ""
    more = len(found) - MOST_NAMES
    return f"masked in logs: {', '.join(found[:MOST_NAMES])}{f' and {more} more' * (more > 0)}"


def _readable(name: str) -> str:
    text = "".join(c if c.isprintable() else "?" for c in name)
    return text if len(text) <= LONGEST_NAME else f"{text[: LONGEST_NAME - 3]}..."


def _of_words(
    words: Sequence[str], names: SecretNames, flags: Mapping[str, str]
) -> Iterator[tuple[int, _Span]]:
    before = ""
    for number, word in enumerate(words):
        head, equals, _ = word.partition("=")
        start = len(head) + 1
        if before in flags:
            yield number, _Span(flags[before], 0, len(word))
        elif _asks_for_secret(before, names) and not word.startswith("--"):
            yield number, _Span(before, 0, len(word))
        elif equals and head in flags:
            yield number, _Span(flags[head], start, len(word))
        elif equals and re.fullmatch(r"-*\w[\w.-]*", head) and names.secret(head):
            yield number, _Span(head, start, len(word))
        else:
            yield from ((number, span) for span in _inside(word, names))
        before = word


def _asks_for_secret(word: str, names: SecretNames) -> bool:
    """Return whether a word is a flag whose value is the next word, and a secret."""
    if not word.startswith("-") or "=" in word or word.startswith(("--no-", "--skip-")):
        return False
    return names.secret(word)


def _inside(text: str, names: SecretNames) -> Iterator[_Span]:
    """Yield the secrets inside of a text."""
    whole = WHOLE_URL.fullmatch(text)
    for match in [whole] if whole else URL.finditer(text):
        yield from _in_url(match)
    for pattern in (PAIR, FLAG):
        for match in pattern.finditer(text):
            key = match["key"]
            if not names.secret(key) and not (key.upper() == "PWD" and not names.allowed(key)):
                continue
            kind = match.lastgroup or "bare"
            value = match[kind].partition("#")[0] if whole else match[kind]
            if value and not value.startswith(("$", "`")):  # a shell will put something there
                name = f"{match['flag']}{key}"
                yield _Span(name, match.start(kind), match.start(kind) + len(value))


def _in_url(match: re.Match[str]) -> Iterator[_Span]:
    """Yield the password of a URL, also of one that holds a `/` which should have been encoded."""
    scheme, rest = match[1].lower(), match[2]
    place = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if "@" in place:
        about = place.rpartition("@")[0]
    elif "@" in rest and ":" in place and not PORT.match(rest):
        about = rest.rpartition("@")[0]
    else:
        return
    user, colon, password = about.partition(":")
    name, start = f"{scheme}://", match.start(2)
    if password:
        yield _Span(name, start + len(user) + 1, start + len(about))
    elif not colon and scheme in ("http", "https") and len(user) >= TOKEN_LENGTH:
        yield _Span(name, start, start + len(user))


def _secrets(name: str, text: str, span: _Span) -> Iterator[Secret]:
    """Yield what lies at a place as it is, and without the encoding of a URL or of JSON."""
    value = text[span.start : span.end]
    values = {value, unquote(value), unquote_plus(value)}
    with suppress(ValueError):
        decoded = json.loads(f'"{value}"')
        values.add(str(decoded))
    yield from (Secret(name, one) for one in sorted(values))


def _is_path(text: str) -> bool:
    return text.startswith("/") and os.path.exists(text)  # noqa: PTH110  no error for any text
