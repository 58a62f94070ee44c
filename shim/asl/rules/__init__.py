"""The rules of `shim asl lint`, one small module each; its docstring is the rule's documentation.

The docstring's first line is `CODE name: what is found.`, then follow paragraphs `Why:`, `Fix:`,
`Silent:`, and definitions in YAML under `Bad:` and `Good:`.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shim.asl.subject import Subject

MODULES = (
    *("array_escape", "input_in_shell"),
    *("date_not_exported", "date_of_state_clock", "date_of_shell_clock", "date_lost"),
    *("date_overridden",),
    *("merge_order", "gate_without_presence", "skip_too_far", "failure_continues"),
    *("missing_on_path",),
    *("poll_retry", "poll_status", "timeout_range", "timeout_order"),
    *("pipe_status", "not_posix", "exit_trap", "shell_syntax", "shellcheck_error"),
)
HEAD = re.compile(r"(ASL\d{3}) ([a-z-]+): (.+)")
PARTS = ("Why", "Fix", "Silent", "Bad", "Good")


@dataclass(frozen=True)
class Hit:
    """What a rule found: the state's path, the text, and why it is wrong."""

    state: str
    text: str
    why: str


@dataclass(frozen=True)
class Rule:
    """A rule: its code and name, what it says of itself, and its check."""

    code: str
    name: str
    title: str
    why: str
    fix: str
    silent: str
    bad: str
    good: str
    check: Callable[[Subject], Iterator[Hit]]


@cache
def every() -> tuple[Rule, ...]:
    """Return all rules, by their codes."""
    rules = [of(import_module(f"{__name__}.{name}")) for name in MODULES]
    return tuple(sorted(rules, key=lambda rule: rule.code))


def of(module: ModuleType) -> Rule:
    """Return the rule that a module is. Raises ValueError for a docstring that lacks a part."""
    head, _, body = (module.__doc__ or "").partition("\n")
    match = HEAD.fullmatch(head)
    pieces = re.split(rf"^({'|'.join(PARTS)}):[ \n]", body, flags=re.MULTILINE)
    parts = dict(zip(pieces[1::2], pieces[2::2], strict=True))
    if match is None or tuple(parts) != PARTS:
        raise ValueError(f"{module.__name__}: the docstring lacks a part, or their order")
    prose = {name: " ".join(parts[name].split()) for name in PARTS[:3]}
    code = {name: textwrap.dedent(parts[name]).strip("\n") + "\n" for name in PARTS[3:]}
    return Rule(
        *(match[1], match[2], match[3]),
        *(prose["Why"], prose["Fix"], prose["Silent"], code["Bad"], code["Good"]),
        module.check,
    )
