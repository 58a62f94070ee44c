"""Completion in bash and zsh: what the shell asks when Tab is pressed after the entry's name.

A user's start-up file evaluates the script that `_SPOT_BACKTEST_SH_COMPLETE=bash_source` or
`zsh_source` makes the entry print; click.palletsprojects.com/en/stable/shell-completion/.
"""

from __future__ import annotations

from typing import NoReturn

import click
from click.shell_completion import BashComplete, ZshComplete, add_completion_class

from shim.options import PlanCommand

ENTRY = "spot_backtest.sh"
VARIABLE = "_SPOT_BACKTEST_SH_COMPLETE"


class Bash(BashComplete):
    """Bash, which gives `--date=today` as three words."""

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return the words before the one to complete, and that one."""
        args, incomplete = super().get_completion_args()
        return [word for word in args if word != "="], incomplete


class Zsh(ZshComplete):
    """Zsh, asking the entry by the name that was typed: it need not be on PATH."""

    source_template = ZshComplete.source_template.replace(
        "    (( ! $+commands[%(prog_name)s] )) && return 1\n", ""
    ).replace("zsh_complete %(prog_name)s", "zsh_complete ${(Q)~words[1]}")


class Entry(PlanCommand, click.Group):
    """What follows the entry's name: the plan's options, or a command."""


def answer(commands: click.Group, words: list[str]) -> NoReturn:
    """Answer the shell's question and exit."""
    add_completion_class(Bash)
    add_completion_class(Zsh)
    ctx = click.Context(commands)
    known = {name: commands.get_command(ctx, name) for name in commands.list_commands(ctx)}
    found = {name: command for name, command in known.items() if command}
    entry = Entry(ENTRY, commands=found, invoke_without_command=True)
    entry.main(words, prog_name=ENTRY, complete_var=VARIABLE)
    raise click.exceptions.Exit(1)
