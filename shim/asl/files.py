"""State machines in files: a definition in JSON or YAML, or any template that holds some.

PyYAML reads YAML. By hand is what CloudFormation adds to it: `!Sub` and its like, and definitions
that are text in a field (DefinitionString), also through Fn::Sub and Fn::Join.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from shim.asl.walk import State, is_definition
from shim.errors import UsageError, shown


@dataclass(frozen=True)
class Found:
    """A definition, and where in its file it stands: empty when it is the whole file.

    `substituted` says that CloudFormation replaces the `${…}` of its text at deployment.
    """

    where: str
    definition: State
    substituted: bool = False


def definitions(data: bytes, name: str) -> list[Found]:
    """Return all state machines in a file's bytes.

    Raises UsageError, with the file's name, for what is neither JSON nor YAML or holds none.
    """
    try:
        text = data.decode("utf-8-sig")
        value = _load(text, name)
        found = list(_search(value, ""))
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeError as error:
        raise UsageError(
            f"{shown(name)} is not text in UTF-8 ({error})", "save it as such"
        ) from error
    except RecursionError as error:
        raise UsageError(f"{shown(name)} nests too deep to be read", "see what made it") from error
    if not found:
        raise UsageError(
            f"{shown(name)} holds no state machine", "one is an object with StartAt and States"
        )
    return found


def _load(text: str, name: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        if text.lstrip()[:1] in ("{", "["):
            raise UsageError(f"{shown(name)} is not JSON: {error}", "correct it there") from error
    return _yaml(text, name)


def _yaml(text: str, name: str) -> Any:
    import yaml  # only templates in YAML need it

    base = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast where libyaml is
    loader: Any = type("Loader", (base,), {})
    loader.add_multi_constructor("!", _tagged)
    loader.add_constructor("tag:yaml.org,2002:timestamp", base.construct_yaml_str)
    try:
        # An alias can make a small file endless, and CloudFormation takes none.
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, base)):
            raise UsageError(f"{shown(name)} has an alias (*…)", "write out what it stands for")
        return _plain(yaml.load(text, loader))  # noqa: S506  # a safe loader, with two tags more
    except (yaml.YAMLError, ValueError, TypeError) as error:  # a key that is a list: TypeError
        words = " ".join(str(error).split())
        raise UsageError(f"{shown(name)} is not YAML: {words}", "correct it there") from error


def _tagged(loader: Any, suffix: str, node: Any) -> Any:
    """Return `!Sub x` as JSON templates write it: {"Fn::Sub": x}."""
    if node.id == "scalar":
        value = loader.construct_scalar(node)
    elif node.id == "sequence":
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(node, deep=True)
    return {suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}": value}


def _plain(value: Any) -> Any:
    """Return what YAML read as JSON knows it: keys that are text."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if isinstance(value, str | int | float | None) else str(value)


def _search(value: Any, where: str) -> Iterator[Found]:
    if is_definition(value):
        plain = _resolved(value) if where else value
        yield Found(where, plain, plain != value)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _search(item, f"{where}[{index}]")
    elif isinstance(value, dict):
        for key, item in value.items():
            here = f"{where}.{key}" if where else key
            text = _made(item)
            inner = _parsed(item if text is None else text)
            if is_definition(inner):
                yield Found(here, inner, text is not None)
            else:
                yield from _search(item, here)


def _resolved(value: Any) -> Any:
    """Return a part of a template with what CloudFormation puts there as text with ${…} in it."""
    text = _made(value)
    if text is not None:
        return text
    if isinstance(value, dict):
        return {key: _resolved(item) for key, item in value.items()}
    return [_resolved(item) for item in value] if isinstance(value, list) else value


def _made(value: Any) -> str | None:
    """Return the text that a function of CloudFormation makes; None if the value is none."""
    if not isinstance(value, dict) or len(value) != 1:
        return None
    key, inner = next(iter(value.items()))
    if key == "Fn::Sub":
        whole = inner[0] if isinstance(inner, list) and inner else inner
        return whole if isinstance(whole, str) else None
    if key == "Fn::Join" and isinstance(inner, list) and len(inner) == 2:
        parts = inner[1] if isinstance(inner[1], list) else []
        return str(inner[0]).join(
            part if isinstance(part, str) else _made(part) or _named(part) for part in parts
        )
    return _named(inner) if key == "Ref" or key.startswith("Fn::") else None


def _named(value: Any) -> str:
    """Return ${…} with the words of a value: harmless inside of JSON text."""
    words = value if isinstance(value, str) else json.dumps(value, default=str)
    return f"${{{''.join(c for c in words if c.isalnum() or c in ':.-_, ')}}}"


def _parsed(text: Any) -> Any:
    if not isinstance(text, str) or "{" not in text or "States" not in text:
        return None
    try:
        return json.loads(text)
    except ValueError:
        return None
