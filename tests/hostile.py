"""Hostile text in every way that a state machine can write it into `commands`, for the tests."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from hypothesis import strategies as st

from shim.asl.intrinsics import quote


@dataclass(frozen=True)
class Element:
    """An element of `commands`, its value and the literals in its text.

    `ministack` and `npm` make of what is rendered what that engine gives: docs/engines.md.
    """

    expression: str
    values: Mapping[str, str]
    literals: tuple[str, ...] = ()
    ministack: Callable[[str], str] = str
    npm: Callable[[str], str] = str

    @property
    def misread_by_npm(self) -> bool:
        """Whether npm's engine loses its place in the text."""
        return any(
            text.endswith("\\") or text.count("(") != text.count(")") for text in self.literals
        ) or (self.npm is latin and max("".join(self.values.values()), default="") > "\xff")


WORDS = (
    "' '' \" \\ { } {} ( ) () , $(id) `id` $HOME ${x} ; && | "
    "$.v0 \\' \\n [0] %s $& # ! * ~ é 😀 word"
)
HOSTILE = st.sampled_from(
    [*WORDS.split(" "), "States.Format('{}', 1)", *"\n\r\t \x00\x7f\u2028", "\r\n", ""]
)
CHARACTER = st.characters(exclude_categories=["Cs"])
TEXT = st.lists(HOSTILE | CHARACTER, max_size=8).map("".join)


def latin(encoded: str) -> str:
    """Return what npm's engine makes of a text in base64: each character is one byte."""
    text = base64.b64decode(encoded).decode()
    return base64.b64encode(text.encode("latin-1")).decode()


def bare(text: str) -> str:
    """Return what npm's engine leaves of a text that a function made."""
    return text.replace("\\", "")


@st.composite
def elements(draw: st.DrawFn, number: int = 0) -> Element:
    """Return any way to write a hostile text into `commands`."""
    text, name = draw(TEXT), f"v{number}"
    path, values = f"$.{name}", {name: text}
    kind = draw(st.sampled_from(["literal", "path", "template", "argument", "base64", "json",
                                 "item", "merge"]))  # fmt: skip
    if kind == "literal":
        return Element(quote(text), {}, (text,))
    if kind == "path":
        return Element(path, values)
    if kind == "template":
        parts = draw(st.lists(TEXT, min_size=2, max_size=4))
        template = "{}".join(quote(part)[1:-1] for part in parts)
        paths = ", ".join([path] * (len(parts) - 1))
        literal = "{}".join(parts)
        return Element(f"States.Format('{template}', {paths})", values, (literal,), npm=bare)
    if kind == "argument":
        escaped = quote(text)[1:-1]
        expression = f"States.Format('{{}}', {quote(text)})"
        return Element(expression, {}, (text,), lambda _: escaped, bare)
    if kind == "base64":
        return Element(f"States.Base64Encode({path})", values, npm=latin)
    if kind == "json":
        return Element(f"States.JsonToString({path})", values, (), lambda _: json.dumps(text), bare)
    if kind == "item":
        return Element(f"States.ArrayGetItem(States.Array('x', {path}), 1)", values, npm=bare)
    inner = f"States.StringToJson(States.JsonToString(States.Array({path})))"
    return Element(f"States.ArrayGetItem({inner}, 0)", {name: "word"})


BATCH = st.lists(st.tuples(elements(0), elements(1)), min_size=30, max_size=30)
