"""Intrinsic functions: their text to a tree, and the tree to a value.

No library that could be found reads both escapes rightly (see `Reading`), so the parser is by hand,
after states-language.net, "Intrinsic Functions", and
docs.aws.amazon.com/step-functions/latest/dg/intrinsic-functions.html. Beyond these texts it takes
`true` and `false` as arguments, because States.JsonMerge needs one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

from shim.asl import functions, paths
from shim.asl.values import AslError, Reading, Text, Unknown, Value

NAME = re.compile(r"[A-Za-z0-9._]+(?=\()")
NUMBER = re.compile(r"-?[0-9]{1,18}(\.[0-9]{1,18})?(?![\w.])")
WORD = re.compile(r"(true|false|null)(?!\w)")
WORDS: dict[str, Value] = {"true": True, "false": False, "null": None}
STRING = re.compile(r"'((?:\\.|[^'\\])*)'", re.DOTALL)
# A path ends at a comma, a blank or a parenthesis that is not within brackets.
PATH = re.compile(r"\$(?:\\.|\[(?:'(?:\\.|[^'\\])*'|\"[^\"]*\"|[^\]'\"])*\]|[^\s,()\[\]\\'\"])*")
ESCAPE = re.compile(r"\\(.?)", re.DOTALL)
RESERVED = "'{}\\"
DEEPEST = 50
"""How deep calls may nest before the text is refused; AWS documents 10 calls in one field."""
MOST_CALLS = 10
"""How many calls one field may hold, on the page above."""


@dataclass(frozen=True)
class String:
    """A literal; `raw` is what stands between the quotes, with its escapes."""

    raw: str


@dataclass(frozen=True)
class Constant:
    """A number, true, false or null."""

    value: bool | int | float | None


@dataclass(frozen=True)
class PathArgument:
    """A path into the input, the context object or a variable."""

    text: str


@dataclass(frozen=True)
class Call:
    """A call; `text` is its source."""

    name: str
    arguments: tuple[Argument, ...]
    text: str


Argument: TypeAlias = "String | Constant | PathArgument | Call"


@lru_cache(maxsize=4096)
def parse(text: str) -> Call:
    """Return the call that a field's text is. Raises AslError, with the place."""
    call, position = _call(text, 0, 0)
    if text[position:].strip():
        raise _unread(text, position)
    return call


def calls(call: Call) -> Iterator[Call]:
    """Return a call and all calls in it, outermost first."""
    yield call
    for argument in call.arguments:
        if isinstance(argument, Call):
            yield from calls(argument)


def quote(text: str) -> str:
    """Return a text as a literal, its reserved characters escaped as documented."""
    return "'" + re.sub(r"['{}\\]", r"\\\g<0>", text) + "'"


def unescape(raw: str, keep: bool = False) -> str:
    r"""Return the text that a literal stands for.

    `keep` leaves the escapes in it, checked all the same. Raises AslError for a backslash before
    anything that is not reserved: "if an open escape backslash is found […], the interpreter will
    throw a runtime error".
    """

    def replaced(match: re.Match[str]) -> str:
        character = match[1]
        if not character or character not in RESERVED:
            raise AslError(f"a backslash before {character!r} in {raw!r}: the call would fail")
        return match[0] if keep else character

    return ESCAPE.sub(replaced, raw)


def slots(raw: str) -> tuple[str, ...]:
    """Return the texts between the `{}` of a States.Format literal. Raises AslError."""
    texts = [""]
    position = 0
    while position < len(raw):
        size = 2 if raw[position] == "\\" or raw.startswith("{}", position) else 1
        piece = raw[position : position + size]
        if piece == "{}":
            texts.append("")
        elif piece in ("{", "}"):
            raise AslError(
                f"an unescaped {piece} in the template {raw!r}: it is reserved, write \\{piece}"
            )
        else:
            texts[-1] += unescape(piece)
        position += size
    return tuple(texts)


def evaluate(call: Call, data: Value, context: Value, reading: Reading) -> Value:
    """Return what a call yields from a state's input and the context object.

    What only a run can decide is an Unknown or has holes. Raises AslError where a run would fail.
    """
    templated = call.name == "States.Format"
    arguments: list[Value] = []
    template: tuple[str, ...] | None = None
    for index, argument in enumerate(call.arguments):
        if isinstance(argument, Call):
            arguments.append(evaluate(argument, data, context, reading))
        elif isinstance(argument, PathArgument):
            arguments.append(paths.read(argument.text, data, context))
        elif isinstance(argument, Constant):
            arguments.append(argument.value)
        elif templated and index == 0:
            template = slots(argument.raw)
            arguments.append(argument.raw)
        else:
            kept = call.name == "States.Array" and reading is Reading.OBSERVED
            arguments.append(unescape(argument.raw, keep=kept))
    if templated and template is None and arguments:
        if isinstance(arguments[0], str):
            template = _template(arguments[0])
        elif isinstance(arguments[0], Unknown | Text):
            return Unknown(call.text)
        if template is None:
            raise AslError(f"the template of {call.text} is not text: the call would fail")
    return functions.apply(call.name, arguments, template, call.text, reading)


def _template(text: str) -> tuple[str, ...]:
    """Return a template that came from the input. What escapes mean in it is documented nowhere."""
    texts = tuple(text.split("{}"))
    if any(character in part for part in texts for character in "{}\\"):
        raise AslError(f"the template {text!r} holds a reserved character and comes from a path")
    return texts


def _call(text: str, position: int, depth: int) -> tuple[Call, int]:
    if depth > DEEPEST:
        raise AslError(f"calls nest more than {DEEPEST} deep")
    start = position
    name = NAME.match(text, position)
    if name is None:
        raise _unread(text, position)
    if not functions.exists(name[0]):
        raise AslError(f"{name[0]} is not an intrinsic function")
    position = _blank(text, name.end() + 1)
    arguments: list[Argument] = []
    if text[position : position + 1] != ")":
        while True:
            argument, position = _argument(text, _blank(text, position), depth)
            arguments.append(argument)
            position = _blank(text, position)
            if text[position : position + 1] != ",":
                break
            position += 1
    if text[position : position + 1] != ")":
        raise _unread(text, position)
    return Call(name[0], tuple(arguments), text[start : position + 1]), position + 1


def _argument(text: str, position: int, depth: int) -> tuple[Argument, int]:
    if match := STRING.match(text, position):
        return String(match[1]), match.end()
    if match := PATH.match(text, position):
        paths.parse(match[0])
        return PathArgument(match[0]), match.end()
    if match := NUMBER.match(text, position):
        return Constant(float(match[0]) if match[1] else int(match[0])), match.end()
    if match := WORD.match(text, position):
        word = WORDS[match[0]]
        return Constant(word if isinstance(word, bool) else None), match.end()
    return _call(text, position, depth + 1)


def _blank(text: str, position: int) -> int:
    while position < len(text) and text[position] in " \t\r\n":
        position += 1
    return position


def _unread(text: str, position: int) -> AslError:
    if text.startswith("'", position):
        return AslError(f"a quote in {text!r} is never closed, from {text[position:]!r} on")
    found = repr(text[position:]) if position < len(text) else "its end"
    return AslError(f"{text!r} is not an intrinsic function, from {found} on")
