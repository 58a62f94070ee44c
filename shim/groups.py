"""Groups of commands: the nearest name for a wrong one, and modules imported when they are used."""

from __future__ import annotations

import importlib
from typing import ClassVar

import click

from shim.errors import UsageError, nearest, shown


class Commands(click.Group):
    """Commands that offer the nearest name for a wrong one."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that the first word names. Raises UsageError."""
        if self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            names = self.list_commands(ctx)
            known = [name for name in names if (c := self.get_command(ctx, name)) and not c.hidden]
            raise UsageError(f"{shown(args[0])} is not a command", nearest(args[0], known))
        return super().resolve_command(ctx, args)


class Asl(Commands):
    """The commands on state machines, each imported when it is called."""

    MODULES: ClassVar = {"build": "build_command", "lint": "lint_command", "render": "commands"}

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  Click's signature
        """Return the names."""
        return list(self.MODULES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import a command."""
        if cmd_name not in self.MODULES:
            return None
        module = importlib.import_module(f"shim.asl.{self.MODULES[cmd_name]}")
        command: click.Command = getattr(module, f"{cmd_name}_command")
        return command
