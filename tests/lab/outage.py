"""A store that is away for a while, in each of the forms in which its clients meet that.

refused         nobody listens at its port: ECONNREFUSED in connect(2)
unresolvable    its name has no address: EAI_NONAME in getaddrinfo(3)
silent          connections are taken, and nothing is answered
reset           connections break in the middle: of the answer to a read, of any other request
                (a RST, as of SO_LINGER in socket(7))
429, 503        it answers that it must not be asked now

The last four are faults of the lab's calls; for the first two the store has an address of its own,
so that EC2 is still there while the store is not.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

FORMS = ("refused", "unresolvable", "silent", "reset", "429", "503")
# What AwsLab.fault is told.
FAULTS = {
    "silent": "hang",
    "reset": "reset",
    "429": "429 TooManyRequests",
    "503": "503 ServiceUnavailable",
}
NAME = "store.lab.invalid"  # a domain that no resolver has: RFC 6761, section 6.4
# The faults that nothing but a change of the client can make without a resolver of its own. It is
# run in the module `socket`, or after it was imported.
RESOLVE = """
_getaddrinfo = {socket}getaddrinfo
def _resolve(host, port, *given, **named):
    import os
    if host == {name!r}:
        if os.path.exists({gone!r}):
            raise {socket}gaierror({socket}EAI_NONAME, "Name or service not known")
        host = "127.0.0.1"
    return _getaddrinfo(host, port, *given, **named)
{socket}getaddrinfo = _resolve
"""
# Where a minute lasts two seconds, what is tried again within it is as fast.
PACE = {
    "botocore.retries.standard": "ExponentialBackoff.delay_amount = lambda *_: 0.03",
    "shim.endure": "PAUSE, LONGEST = 0.1, 0.5",
}
# And a silence is noticed before it is over.
SILENT = """
for _limits in (HURRIED, PATIENT):
    _limits.update(read_timeout=1.5, attempts=2)
"""
Take = Callable[[socket.socket, tuple[str, int]], None]


class StoreAddress:
    """The store's own host and port: connections that come there are given to `take`."""

    def __init__(self, take: Take, folder: Path) -> None:
        self._take = take
        # Bound for as long as the lab lives, so that nobody else gets the port while it is closed:
        # what does not listen refuses (connect(2)).
        self._held = _bound(0)
        self._port = self._held.getsockname()[1]
        self._listener: socket.socket | None = None
        folder.mkdir(parents=True, exist_ok=True)
        self._gone = folder / "unresolvable"
        self._lock = threading.Lock()
        self.come_back()

    @property
    def url(self) -> str:
        """The endpoint, for clients that resolve its name with `resolve`."""
        return f"http://{NAME}:{self._port}"

    def resolve(self, module: str = "") -> str:
        """Return Python by which the name has an address, or has none while the store is away.

        It is for the module `socket` itself, or for code that has it as `module`.
        """
        prefix = f"{module}." if module else ""
        return RESOLVE.format(socket=prefix, name=NAME, gone=str(self._gone))

    def changes(self, form: str) -> dict[str, str]:
        """Return what a process is to be given, as of patches(), that meets a form of outage."""
        silent = {"shim.aws": SILENT} if form == "silent" else {}
        return {**PACE, **silent, "socket": self.resolve()}

    def go(self, form: str) -> None:
        """Be refused or unresolvable from now on."""
        if form == "unresolvable":
            self._gone.touch()
            return
        with self._lock:
            if self._listener is not None:
                with suppress(OSError):
                    self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept(2)
                self._listener.close()
                self._listener = None

    def come_back(self) -> None:
        """Be there again."""
        self._gone.unlink(missing_ok=True)
        with self._lock:
            if self._listener is None and self._held.fileno() >= 0:
                self._listener = _bound(self._port)
                self._listener.listen(128)
                threading.Thread(target=self._serve, args=[self._listener], daemon=True).start()

    def close(self) -> None:
        """Be gone for good."""
        self._held.close()
        self.go("refused")

    def _serve(self, listener: socket.socket) -> None:
        with suppress(OSError):  # it was closed
            while True:
                self._take(*listener.accept())


def _bound(port: int) -> socket.socket:
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind(("127.0.0.1", port))
    return made
