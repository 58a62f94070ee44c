"""A plan as text: lines for a person, names and values for the entry."""

from __future__ import annotations

import shlex

from shim.errors import printable
from shim.masking import masked_notice, shown_command
from shim.plan import Plan


def described(plan: Plan) -> str:
    """Return what would run, line by line."""
    lines = [
        f"run date    {plan.run_date} (from {plan.run_date_source})",
        f"execution   {plan.execution_id}",
        f"code        {plan.code_version}",
        f"store       {plan.store}",
        f"prefix      {plan.run_prefix}",
        f"table       {plan.pipeline}",
        "stages",
    ]
    for stage in plan.planned:
        lines.append(
            f"  {stage.name:<10} {shlex.join(shown_command(plan, stage))}  [{stage.timeout} s]"
        )
    lines += [f"  {stage.name:<10} skipped: {stage.skipped}" for stage in plan.skipped]
    return "\n".join(map(printable, lines))


def pairs(plan: Plan) -> list[tuple[str, str]]:
    """Return what the entry needs of a plan, the plan itself first."""
    found = [
        ("plan", plan.to_json()),
        ("run_date", plan.run_date),
        ("on", plan.on),
        ("quiet", "1" if plan.quiet else ""),
        ("preflight_only", "1" if plan.preflight_only else ""),
        ("requirements", plan.requirements or ""),
        ("requirements_root", plan.root),
        ("notice", f"run date {plan.run_date} (from {plan.run_date_source}), "
         f"execution {plan.execution_id}"),
        ("notice", f"store {plan.store}, prefix {plan.run_prefix}"),
    ]  # fmt: skip
    found += [("row", stage.name) for stage in plan.stages]
    found += [("notice", f"{s.name} is skipped: {s.skipped}") for s in plan.skipped]
    if not plan.planned:
        found.append(("notice", "no stage is left to run"))
    if masked := masked_notice(plan):
        found.append(("notice", masked))
    found = [(name, printable(text) if name == "notice" else text) for name, text in found]
    return found + [("stage", stage.name) for stage in plan.planned]
