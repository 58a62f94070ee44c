"""A way to a server that a test can close: refused, silent, reset, or not what it should be."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator

NO_LINGER = struct.pack("ii", 1, 0)  # close sends a reset: SO_LINGER in socket(7)


class Gate:
    """A port of 127.0.0.1 through which connections reach another one.

    `state` is open, refused (nothing listens), silent (connections are taken and nothing comes
    back) or reset (in the middle of the first answer). It is for new connections.
    """

    def __init__(self, to: int) -> None:
        self.to = to
        self.state = "open"
        self._held: list[socket.socket] = []
        self._listener = self._listen(0)
        self.port = self._listener.getsockname()[1]
        self.taken = 0  # connections so far

    @property
    def url(self) -> str:
        """Where clients are to go."""
        return f"http://127.0.0.1:{self.port}"

    def turn(self, state: str) -> None:
        """Change the state."""
        before, self.state = self.state, state
        if state == "refused":
            self._shut()
        elif before == "refused":
            self._listener = self._listen(self.port)

    def close(self) -> None:
        """End it all."""
        if self.state != "refused":
            self._shut()
        for one in self._held:
            one.close()

    def _shut(self) -> None:
        with contextlib.suppress(OSError):  # wakes the one that accepts
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _listen(self, port: int) -> socket.socket:
        listener = socket.create_server(("127.0.0.1", port))
        threading.Thread(target=self._accept, args=[listener], daemon=True).start()
        return listener

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            self.taken += 1
            self._held.append(client)
            if self.state == "silent":
                continue
            there = socket.create_connection(("127.0.0.1", self.to))
            self._held.append(there)
            reset = self.state == "reset"
            for pair in ((client, there, False), (there, client, reset)):
                threading.Thread(target=_pump, args=pair, daemon=True).start()


def _pump(one: socket.socket, other: socket.socket, reset: bool) -> None:
    with contextlib.suppress(OSError):
        while data := one.recv(1 << 16):
            if reset:
                other.sendall(data[:10])
                other.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
                break
            other.sendall(data)
    for end in (one, other):
        with contextlib.suppress(OSError):
            if end is other and reset:
                end.close()
            else:
                end.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def gate(to: int) -> Iterator[Gate]:
    """Run a gate to a port of this machine."""
    made = Gate(to)
    try:
        yield made
    finally:
        made.close()
