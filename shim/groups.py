"""Groups of commands: the nearest name for a wrong one, and modules imported when they are used."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
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


class Lazy(Commands):
    """Commands of which some are imported when they are called: MODULES says from where."""

    MODULES: ClassVar[Mapping[str, str]] = {}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names."""
        return [*super().list_commands(ctx), *self.MODULES]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command, if it is one to be imported."""
        if cmd_name not in self.MODULES:
            return super().get_command(ctx, cmd_name)
        module = importlib.import_module(self.MODULES[cmd_name])
        command: click.Command = getattr(module, f"{cmd_name}_command")
        return command


class Top(Lazy):
    """All commands; these are imported when they are called."""

    MODULES: ClassVar = {
        "status": "shim.status_command",
        **dict.fromkeys(("follow", "reap", "spot", "guest"), "shim.spot_commands"),
    }


class Asl(Lazy):
    """The commands on state machines, each imported when it is called."""

    MODULES: ClassVar = {
        "build": "shim.asl.build_command",
        "lint": "shim.asl.lint_command",
        "render": "shim.asl.commands",
    }
