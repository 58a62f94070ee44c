"""Paths: `$.a.b[0]['x']` into a state's input, `$$.Execution.Name` into the context object.

jsonpath-ng evaluates wildcards, slices, unions, descents and filters. By hand is what it does not
know of the States Language (states-language.net, "Paths" and "Reference Paths"): `$$`, variables,
the backslash in names, writing by ResultPath, and that a path which can name only one node yields
this node, while any other yields a list.
"""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from shim.asl.values import AslError, Unknown, Value, known

if TYPE_CHECKING:
    from jsonpath_ng import JSONPath

STEP = re.compile(
    r"""
    \.(?P<name>(?:\\.|[^\s.\[\]\\*?@,:()'"])+)
    | \[\s*'(?P<single>(?:\\.|[^'\\])*)'\s*\]
    | \[\s*"(?P<double>(?:\\.|[^"\\])*)"\s*\]
    | \[\s*(?P<index>-?[0-9]{1,9})\s*\]
    | (?P<many>\.\.(?=[\w*\[])\w* | \.\* | \[(?:'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|[^'"\[\]])+\])
    """,
    re.VERBOSE,
)
ROOT = re.compile(r"\$\$|\$(?P<variable>[A-Za-z_]\w*)|\$")
SPECIAL = "wildcards, slices, unions, .. and [?(…)]"


class AbsentError(AslError):
    """A path that names nothing: Step Functions fails the state there."""


@dataclass(frozen=True)
class Path:
    """A path that was read: `root` is `$`, `$$` or a variable's name.

    `steps` lead to one node; `rest`, from the first step that may name several, is empty in a
    reference path.
    """

    text: str
    root: str
    steps: tuple[str | int, ...]
    rest: str


@lru_cache(maxsize=4096)
def parse(text: str) -> Path:
    """Return the path that a text is. Raises AslError."""
    match = ROOT.match(text)
    if match is None:
        raise AslError(f"{text!r} is not a path: a path starts with $")
    position = match.end()
    steps: list[str | int] = []
    rest = ""
    while position < len(text):
        step = STEP.match(text, position)
        if step is None:
            raise AslError(
                f"{text!r} is not a path that is read here, from {text[position:]!r} on"
                f" (names, indices, {SPECIAL} are)"
            )
        if rest or step["many"]:
            rest += step[0]
        elif step["index"]:
            steps.append(int(step["index"]))
        else:
            name = step["name"] or step["single"] or step["double"] or ""
            steps.append(re.sub(r"\\(.)", r"\1", name, flags=re.DOTALL))
        position = step.end()
    root = match["variable"] or match[0]
    return Path(text, root, tuple(steps), rest)


def read(text: str, data: Value, context: Value) -> Value:
    """Return what a path yields: the one node, or a list where it may name several.

    What lies behind an Unknown is Unknown; so is a variable, for Assign is not followed. Raises
    AbsentError where a run would fail, and AslError for a path that is not read here.
    """
    path = parse(text)
    if path.root not in ("$", "$$"):
        return Unknown(text)
    node = context if path.root == "$$" else data
    for step in path.steps:
        if isinstance(node, Unknown):
            node = node.at(step)
        elif isinstance(step, str) and isinstance(node, dict) and step in node:
            node = node[step]
        elif isinstance(step, int) and isinstance(node, list):
            if not -len(node) <= step < len(node):
                raise AbsentError(f"{text} is past the end of its array: the state would fail")
            node = node[step]
        else:
            where = "the context object" if path.root == "$$" else "the state's input"
            raise AbsentError(f"{text} is not in {where}: the state would fail")
    return _find(path, node) if path.rest else node


def write(text: str, data: Value, result: Value) -> Value:
    """Return the input with a result put at a reference path, as ResultPath does.

    Missing fields on the way are made. Raises AslError for a path that may name several nodes, or
    that leads into what is neither an object nor an element that exists.
    """
    path = parse(text)
    if path.root != "$" or path.rest:
        raise AslError(f"{text!r} is not a reference path")
    return _put(path, path.steps, data, result)


def _put(path: Path, steps: tuple[str | int, ...], node: Value, result: Value) -> Value:
    if not steps:
        return result
    step, rest = steps[0], steps[1:]
    if isinstance(node, Unknown):
        return node
    if isinstance(node, dict) and isinstance(step, str):
        return {**node, step: _put(path, rest, node.get(step, {} if rest else None), result)}
    if isinstance(node, list) and isinstance(step, int) and -len(node) <= step < len(node):
        changed = list(node)
        changed[step] = _put(path, rest, node[step], result)
        return changed
    raise AslError(f"the result cannot be put at {path.text}: the state would fail")


def _find(path: Path, node: Value) -> Value:
    if not known(node):
        return Unknown(path.text)
    # Only such paths need the library, and a definition seldom has one: it takes 0.1 s to import.
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return [match.value for match in _compiled(f"${path.rest}").find(node)]
    except RecursionError:
        raise
    # The library raises its own class, but in a filter whatever a comparison of two types raises.
    except Exception as error:
        raise AslError(f"{path.text!r} cannot be evaluated here: {error}") from error


@lru_cache(maxsize=1024)
def _compiled(text: str) -> JSONPath:
    from jsonpath_ng.ext.parser import parse as compiled

    path: JSONPath = compiled(text)
    return path
