"""The rules' documentation: of one rule for `--explain`, of all as docs/lint.md."""

from __future__ import annotations

import sys

from shim.asl import rules
from shim.asl.rules import Rule


def explain(rule: Rule) -> str:
    """Return a rule's documentation in Markdown."""
    return (
        f"## {rule.code} {rule.name}\n\n{rule.title}\n\n"
        f"**Why.** {rule.why}\n\n**Fix.** {rule.fix}\n\n"
        f"**Silent when** {rule.silent}\n\n**Bad**\n\n```yaml\n{rule.bad}```\n\n"
        f"**Good**\n\n```yaml\n{rule.good}```\n"
    )


HEADER = """\
# Rules of `shim asl lint`

Generated from the docstrings in `shim/asl/rules/`: `python -m shim.asl.lint_docs > docs/lint.md`.

Each rule claims what the text of a definition proves, whatever the input of an execution is. Where
that cannot be decided (a task's result, JSONata, commands that are a path), it says nothing: see
**Silent when**. A way through the definition is any that its text allows: a `Choice` which only a
run decides goes both ways. Shell rules read the commands of states that send `AWS-RunShellScript`,
as `shim asl render` shows them with the escapes that were observed on AWS. ASL504 and ASL505 need
`bash` and `shellcheck` on PATH; when one is missing the command says so.

"""


def documentation() -> str:
    """Return docs/lint.md."""
    table = "".join(
        f"| [{r.code}](#{r.code.lower()}-{r.name}) | {r.name} | {r.title} |\n"
        for r in rules.every()
    )
    sections = "\n".join(map(explain, rules.every()))
    return f"{HEADER}| rule | name | finds |\n|---|---|---|\n{table}\n{sections}"


if __name__ == "__main__":
    sys.stdout.write(documentation())
