"""How a publication shows itself: a bar on a terminal, a line for each file otherwise."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress

import click

from shim.artifacts import Found, Meter
from shim.store import Progress


def meter(check: Callable[[], None], tell: Callable[[str], None], quiet: bool) -> Meter:
    """Return what shows each file's progress; `check` is called for every piece and may raise."""

    def line(one: Found) -> Progress:
        tell(f"publishes {one.path} ({one.size:,} bytes)")
        return lambda _count: check()

    def bar(one: Found) -> Progress:
        shown = click.progressbar(length=one.size, label=f"  {one.path}", file=sys.stderr)
        with suppress(OSError):
            shown.render_progress()

        def advance(count: int) -> None:
            check()
            with suppress(OSError):  # the terminal went away: nothing is drawn, nothing fails
                shown.update(count)
                if shown.finished:
                    shown.render_finish()

        return advance

    return bar if sys.stderr.isatty() and not quiet else line
