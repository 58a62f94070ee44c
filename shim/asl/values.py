"""The values that a state machine computes with: JSON, and what only a run can decide.

A Task's result, the clock, a random number are not in the text of a definition. Each becomes an
`Unknown` with a label, and a text that was made with one becomes a `Text` with a hole, so what is
printed always shows what was decided and what was not.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias


class AslError(Exception):
    """An expression that Step Functions would refuse or fail on, or that is not read here."""


class Reading(Enum):
    r"""How an escape in a `States.Array` argument is read, and what else differs in practice.

    DOCUMENTED: docs.aws.amazon.com/step-functions/latest/dg/intrinsic-functions.html and the States
    Language (states-language.net), word for word. OBSERVED: a text that is a direct argument of
    States.Array keeps its backslashes. AWS was seen to do so with `\'`; that it does so with the
    other escapes is what two emulators do, and was not seen. In a States.Format template, and
    anywhere else, both readings drop them.
    """

    DOCUMENTED = "documented"
    OBSERVED = "observed"


@dataclass(frozen=True)
class Unknown:
    """A value that only a run can decide; `label` names where it comes from."""

    label: str

    @property
    def text(self) -> str:
        """The placeholder that stands for it: `<Send.Command.CommandId>`."""
        return f"<{self.label}>"

    def at(self, step: str | int) -> Unknown:
        """Return the field or the element of it."""
        return Unknown(f"{self.label}[{step}]" if isinstance(step, int) else f"{self.label}.{step}")


@dataclass(frozen=True)
class Text:
    """A text with at least one hole in it."""

    parts: tuple[str | Unknown, ...]

    @property
    def text(self) -> str:
        """The text, with placeholders in its holes."""
        return "".join(part if isinstance(part, str) else part.text for part in self.parts)


Value: TypeAlias = (
    "bool | int | float | str | list[Value] | dict[str, Value] | Unknown | Text | None"
)


def known(value: Value) -> bool:
    """Return whether nothing in the value is left to a run."""
    if isinstance(value, dict):
        return all(known(item) for item in value.values())
    if isinstance(value, list):
        return all(known(item) for item in value)
    return not isinstance(value, Unknown | Text)


def same(one: Value, other: Value) -> bool:
    """Return whether two values are equal as JSON: `true` is not 1, and 1 is not 1.0."""
    if one is other:
        return True
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and one == other


def join(one: Value, other: Value, label: str) -> Value:
    """Return what is known when either value may be meant; `one` itself if `other` adds no doubt.

    Where they differ the result is an Unknown, labelled with the place.
    """
    if one is other or isinstance(one, Unknown):
        return one
    if isinstance(one, dict) and isinstance(other, dict):
        joined: dict[str, Value] = {}
        for key in [*one, *(key for key in other if key not in one)]:
            here = f"{label}.{key}"
            both = key in one and key in other
            joined[key] = join(one[key], other[key], here) if both else Unknown(here)
        return one if _unchanged(one, joined) else joined
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        items = [
            join(left, right, f"{label}[{index}]")
            for index, (left, right) in enumerate(zip(one, other, strict=True))
        ]
        return one if all(map(_is, one, items)) else items
    return one if type(one) is type(other) and one == other else Unknown(label)


def _unchanged(one: dict[str, Value], joined: dict[str, Value]) -> bool:
    return len(one) == len(joined) and all(one[key] is joined[key] for key in one)


def _is(one: Value, other: Value) -> bool:
    return one is other
