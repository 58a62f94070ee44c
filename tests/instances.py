"""Instances of the lab without the rest of it: each a machine that a test gives its user data."""

from __future__ import annotations

import http.client
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from tests.children import read, until
from tests.lab.machine import Machine


@dataclass(frozen=True)
class Instance:
    """A spot instance."""

    id: str = "i-0123456789abcdef0"
    type: str = "c7a.large"
    zone: str = "eu-west-1b"
    subnet: str = "subnet-1"
    market: str = "spot"
    tags: dict[str, str] = field(default_factory=dict)


@dataclass
class Lab:
    """A lab in which a minute of `shutdown +N` is short."""

    instance_env: dict[str, str] = field(default_factory=dict)
    minute: float = 0.05

    def role_key(self, instance_id: str) -> str:
        """Return the access key id of a role."""
        return "ASIA"


class Running:
    """A machine, and how often it said that it was shut down."""

    def __init__(self, user_data: str, folder: Path, lab: Lab) -> None:
        self.shutdowns: list[bool] = []
        self.machine = Machine(Instance(), user_data.encode(), folder, lab)
        self.machine.on_shutdown = self._shut_down

    @property
    def console(self) -> str:
        """All that was printed."""
        return read(self.machine.folder / "console").decode()

    def said(self, text: str) -> bool:
        """Wait until the console holds a text."""
        return bool(until(lambda: text in self.console))

    def down(self) -> None:
        """Wait for the shutdown."""
        until(lambda: self.shutdowns)

    def reachable(self) -> bool:
        """Return whether the metadata service listens."""
        server = http.client.HTTPConnection(urlsplit(self.machine.imds.url).netloc, timeout=5)
        try:
            server.connect()
        except ConnectionRefusedError:
            return False
        server.close()
        return True

    def _shut_down(self) -> None:
        nothing_left = self.machine.pids() == []
        self.machine.kill()  # as a lab cleans up
        self.shutdowns.append(nothing_left)


Launch = Callable[..., Running]


@contextmanager
def launching(folder: Path) -> Iterator[Launch]:
    """Launch instances, each in a folder of its own with a space in its name; end them all."""
    made: list[Running] = []

    def one(user_data: str, lab: Lab | None = None, *, start: bool = True) -> Running:
        made.append(Running(user_data, folder / f"i {len(made)}", lab or Lab()))
        if start:
            made[-1].machine.start()
        return made[-1]

    try:
        yield one
    finally:
        for each in made:
            each.machine.kill()
