"""The engine of `shim asl lint`: rules chosen, run over definitions, and their findings printed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass

from shim.asl import rules
from shim.asl.files import Found, definitions
from shim.asl.rules import Rule
from shim.asl.subject import Subject
from shim.errors import UsageError, nearest, printable, shown


@dataclass(frozen=True)
class Finding:
    """What is wrong in a state: rule, file, the state's path, the text, why, and the fix.

    `line` is where the state's name stands in the file; 0 when that is not certain.
    """

    rule: str
    file: str
    state: str
    text: str
    why: str
    fix: str
    line: int = 0


def lint(data: bytes, file: str, chosen: Sequence[Rule] | None = None) -> list[Finding]:
    """Return what the rules find in a file's bytes, in the order of its states.

    Raises UsageError for a file that holds no definition, and AslError for one that nests too deep.
    """
    text = data.decode("utf-8", errors="replace")
    found = definitions(data, file)
    return [
        finding
        for definition in found
        for finding in lint_definition(definition, file, text, chosen)
    ]


def lint_definition(
    found: Found, file: str = "-", text: str = "", chosen: Sequence[Rule] | None = None
) -> list[Finding]:
    """Return what the rules find in one definition; `text` is its file's, for line numbers."""
    subject = Subject(found)
    order = {path: number for number, path in enumerate(subject.graph.nodes)}
    findings: dict[Finding, None] = {}
    for rule in rules.every() if chosen is None else chosen:
        for hit in rule.check(subject):
            state = f"{found.where}: {hit.state}" if found.where else hit.state
            line = line_of(hit.state.rpartition("/")[2], text)
            finding = Finding(rule.code, file, state, hit.text, hit.why, rule.fix, line)
            findings[finding] = None
    prefix = f"{found.where}: " if found.where else ""
    return sorted(
        findings, key=lambda f: (order.get(f.state.removeprefix(prefix), len(order)), f.rule)
    )


def choose(select: Iterable[str], ignore: Iterable[str]) -> list[Rule]:
    """Return the rules whose codes start with a selected prefix and with no ignored one.

    As in ruff the longer prefix wins; without `select` all are. Raises UsageError for a prefix that
    no rule has.
    """
    known = rules.every()
    codes = [rule.code for rule in known]
    prefixes: dict[str, bool] = {}
    for option, given, chosen in (("--select", select, True), ("--ignore", ignore, False)):
        for prefix in _names(given):
            whole = prefix.upper()
            if whole != "ALL" and not any(code.startswith(whole) for code in codes):
                raise UsageError(
                    f"{shown(prefix)} is no rule and no prefix of one (set by {option})",
                    nearest(whole, codes),
                )
            prefixes["" if whole == "ALL" else whole] = chosen
    everything = all(not chosen for chosen in prefixes.values())

    def wanted(code: str) -> bool:
        fitting = [prefix for prefix in prefixes if code.startswith(prefix)]
        return prefixes[max(fitting, key=len)] if fitting else everything

    return [rule for rule in known if wanted(rule.code)]


def _names(given: Iterable[str]) -> list[str]:
    return [name.strip() for text in given for name in text.split(",") if name.strip()]


def line_of(name: str, text: str) -> int:
    """Return the line of a file on which a state's name is a key; 0 unless there is just one."""
    key = rf'(?:{re.escape(json.dumps(name))}|"{re.escape(name)}"|{re.escape(name)})'
    found = [m.start() for m in re.finditer(rf"(?m)(?:^|[\s{{,]){key}\s*:(?=[\s{{])", text)]
    # The match may begin with the break of the line before.
    return text.count("\n", 0, found[0] + 1) + 1 if len(found) == 1 else 0


def as_text(findings: Sequence[Finding]) -> str:
    """Return findings for a person: where and what, then why, then what to do."""
    return "".join(
        printable(f"{_place(finding)}: {finding.rule} {finding.state}: {_one_line(finding.text)}")
        + f"\n    why: {printable(finding.why)}\n    fix: {printable(finding.fix)}\n"
        for finding in findings
    )


def as_json(findings: Sequence[Finding]) -> str:
    """Return findings as a JSON array of objects with the names of their fields."""
    return (
        json.dumps([asdict(finding) for finding in findings], indent=2, ensure_ascii=False) + "\n"
    )


def as_github(findings: Sequence[Finding]) -> str:
    """Return findings as annotations of a GitHub workflow.

    docs.github.com/actions/reference/workflows-and-actions/workflow-commands
    """
    lines = []
    for finding in findings:
        line = f",line={finding.line}" if finding.line else ""
        place = f"file={_property(finding.file)}{line}"
        title = _property(f"{finding.rule} {finding.state}")
        message = _data(f"{finding.text}\n{finding.why}\n{finding.fix}")
        lines.append(f"::error {place},title={title}::{message}\n")
    return "".join(lines)


FORMATS: dict[str, Callable[[Sequence[Finding]], str]] = {
    "text": as_text,
    "json": as_json,
    "github": as_github,
}


def _place(finding: Finding) -> str:
    return f"{finding.file}:{finding.line}" if finding.line else finding.file


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
