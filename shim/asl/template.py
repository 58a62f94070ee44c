"""Payload templates: Parameters, ResultSelector and their like, filled for one state.

Source: states-language.net, "Payload Template". JSONata expressions are not evaluated: each is an
Unknown with its text.
"""

from __future__ import annotations

from typing import Any

from shim.asl import intrinsics, paths
from shim.asl.values import AslError, Reading, Unknown, Value


class Filler:
    """Fills templates for one state; what would fail there becomes Unknown and a problem."""

    def __init__(self, data: Value, context: Value, reading: Reading, jsonata: bool) -> None:
        self.data = data
        self.context = context
        self.reading = reading
        self.jsonata = jsonata
        self.problems: dict[str, None] = {}

    def fill(self, template: Any, where: str) -> Value:
        """Return what a template yields; `where` names it in the problems."""
        if isinstance(template, dict):
            filled: dict[str, Value] = {}
            for key, item in template.items():
                here = f"{where}.{key}"
                if key.endswith(".$") and not self.jsonata:
                    filled[key[:-2]] = self.expression(item, here)
                else:
                    filled[key] = self.fill(item, here)
            return filled
        if isinstance(template, list):
            return [self.fill(item, f"{where}[{index}]") for index, item in enumerate(template)]
        if self.jsonata and is_jsonata(template):
            return Unknown(f"JSONata {template}")
        value: Value = template
        return value

    def expression(self, text: Any, where: str) -> Value:
        """Return what a path or an intrinsic function yields."""
        if not isinstance(text, str):
            self.problems[f"{where}: a path or an intrinsic function must stand there"] = None
            return Unknown(where)
        try:
            if text.startswith("$"):
                return paths.read(text, self.data, self.context)
            call = intrinsics.parse(text)
            count = sum(1 for _ in intrinsics.calls(call))
            if count > intrinsics.MOST_CALLS:
                self.problems[
                    f"{where}: {count} intrinsic functions in one field;"
                    f" AWS documents at most {intrinsics.MOST_CALLS}"
                ] = None
            return intrinsics.evaluate(call, self.data, self.context, self.reading)
        except AslError as error:
            self.problems[f"{where}: {error}"] = None
            return Unknown(text)

    def selected(self, path: Any, value: Value, where: str) -> Value:
        """Return what InputPath or OutputPath selects: null is an empty object."""
        if path is None:
            return {}
        if path == "$":
            return value
        try:
            return paths.read(str(path), value, self.context)
        except AslError as error:
            self.problems[f"{where}: {error}"] = None
            return Unknown(str(path))

    def placed(self, path: Any, raw: Value, result: Value, where: str) -> Value:
        """Return the input with the result where ResultPath puts it: null drops the result."""
        if path is None:
            return raw
        try:
            return paths.write(str(path), raw, result)
        except AslError as error:
            self.problems[f"{where}: {error}"] = None
            return Unknown(where)


def is_jsonata(value: object) -> bool:
    """Return whether a value is a JSONata expression: text from `{%` to `%}`."""
    return (
        isinstance(value, str) and value.strip().startswith("{%") and value.strip().endswith("%}")
    )
