"""A launched lab instance that is a whole Debian: systemd and cloud-init in systemd-nspawn(1).

It boots what an image holds: a tree that mmdebstrap(1) makes once on a machine, and that no
instance changes, for each has its own overlay in memory. Its network is its own, too: nothing but
the metadata service, where every instance finds it, and the lab; both lead to this machine's
127.0.0.1. No service of the host is reachable, nor a device or a disk of it.

cloud-init finds the user data in a NoCloud seed, and runs it as on EC2. Nothing else is told to it:
no variable, no file.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import shutil
import signal
import socket
import socketserver
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.children import until
from tests.lab import debian, init
from tests.lab.aws import AwsLab
from tests.lab.ec2_instances import LabInstance
from tests.lab.imds import Imds

# The sockets in /run are not for it, and it would leave a folder there. systemd takes what it finds
# in its control groups for its own, so they are: cgroups(7).
ALONE = 'mount -t tmpfs tmpfs /run; for i in $OWN; do echo 0 >"$i/cgroup.procs"; done; exec "$@"'
NSPAWN = (
    *(*debian.APART, "sh", "-euc", ALONE, "sh", "systemd-nspawn", "--quiet", "--read-only"),
    *("--volatile=overlay", "--register=no", "--keep-unit", "--capability=CAP_NET_ADMIN"),
    *("--link-journal=no", "--resolv-conf=off", "--timezone=off"),
)
ADDRESS = "169.254.169.254"
CLONE_NEWNET = 0x40000000  # unshare(2), setns(2)
SIOCSIFFLAGS, SIOCSIFADDR, IFF_UP = 0x8914, 0x8916, 1  # netdevice(7)
POWER_BUTTON = signal.SIGRTMIN + 4  # poweroff.target, as a press does: systemd(1)
LIBC = ctypes.CDLL(None, use_errno=True)


def image() -> Path:
    """Return the tree that instances boot, made if it is not there yet; or skip."""
    if os.geteuid():
        pytest.skip("systemd-nspawn boots nothing without root")
    for program, package in (("systemd-nspawn", "systemd-container"), ("mmdebstrap", "mmdebstrap")):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed (apt-get install {package})")
    tree = debian.tree()
    if problem := _problem(tree):
        pytest.skip(f"systemd-nspawn runs nothing here: {problem}")
    return tree


def _problem(tree: Path) -> str:
    """Return why a container cannot be started, as none may be inside of one; or nothing."""
    command = ["unshare", "--net", *NSPAWN, f"--directory={tree}", "true"]
    try:
        with _control_groups(f"try-{os.getpid()}") as env:
            tried = subprocess.run(
                command, env=env, stdin=subprocess.DEVNULL, capture_output=True, check=False
            )
    except OSError as error:
        return str(error)
    said = tried.stderr.decode().strip().rpartition("\n")[2]
    return said or f"exit {tried.returncode}" if tried.returncode else ""


class Container:
    """One instance; `folder` holds log, of the user data, and console, which is the journal."""

    def __init__(
        self, tree: Path, instance: LabInstance, user_data: bytes, lab: InstanceLab
    ) -> None:
        self.folder = (lab.folder / instance.id).resolve()
        self.imds = Imds(instance, user_data, lab)
        self.on_shutdown: Callable[[], None] | None = None
        self._tree, self._name, self._user_data, self._lab = tree, instance.id, user_data, lab
        self._killed = False
        self._lock = threading.Lock()
        self._begun = threading.Event()
        self._life = threading.Thread(target=self._live, name=instance.id, daemon=True)
        self._ran: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Boot; returns at once. Once killed it is not started any more."""
        with self._lock:
            if self._killed or self._begun.is_set():
                return
            seed = self.folder / "seed"
            seed.mkdir(parents=True)
            (seed / "user-data").write_bytes(self._user_data)
            (seed / "meta-data").write_text(f"instance-id: {self._name}\n")
            (self.folder / "log").touch()
            self.imds.on()
            self._life.start()
            self._begun.wait()

    def press(self) -> None:
        """Press the power button, as EC2 does to stop or to terminate an instance."""
        os.kill(self.init_pid, POWER_BUTTON)

    def kill(self) -> None:
        """Cut the power: no process is left when this returns, and `on_shutdown` is not called."""
        with self._lock:
            self._killed = True
            if self._ran is not None:
                self._ran.kill()
        if self._begun.is_set():
            self._life.join()
        self.imds.close()

    def notice(self, action: str, at: datetime) -> None:
        """Let the metadata service announce an interruption from now on."""
        self.imds.notice(action, at)

    def pids(self) -> list[int]:
        """Return the live processes of the instance, by this machine's numbers."""
        ran = self._ran
        return list(init.find(ran.pid, None)) if ran and ran.poll() is None else []

    def calls(self) -> list[list[str]]:
        """Return nothing: whom it calls is systemd itself."""
        return []

    @property
    def init_pid(self) -> int:
        """The pid of systemd."""
        return next(pid for pid in self.pids() if _numbers(pid)[2:] == ["1"])

    def _command(self) -> list[str]:
        seed = f"{self.folder}/seed:/var/lib/cloud/seed/nocloud"
        log = f"{self.folder}/log:/var/log/spot-backtest.log"
        # Of the thread that starts it, which stays until it has ended: prctl(2), PR_SET_PDEATHSIG.
        return [
            *("setpriv", "--pdeathsig=KILL", *NSPAWN, f"--directory={self._tree}"),
            *(f"--machine={self._name}", "--console=read-only", f"--bind-ro={seed}"),
            *(f"--bind={log}", "--boot", "systemd.journald.forward_to_console=1"),
        ]

    def _live(self) -> None:
        """Be the thread of one boot, with all that it needs until its end."""
        try:
            with _control_groups(self._name) as env:
                ran, doors = self._boot(env)
                self._begun.set()
                ran.wait()
                for door in doors:
                    door.shutdown()
                    door.server_close()
        finally:
            self._begun.set()
        with self._lock:
            report = not self._killed
        self.imds.close()
        if report and self.on_shutdown is not None:
            self.on_shutdown()

    def _boot(self, env: dict[str, str]) -> tuple[subprocess.Popen[bytes], list[_Door]]:
        """Start nspawn while this thread is in a network of its own."""
        doors = self._network()
        with (self.folder / "console").open("wb") as console:
            self._ran = subprocess.Popen(
                self._command(),
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,
            )
        with open("/proc/self/ns/net") as of_the_process:
            _check(LIBC.setns(of_the_process.fileno(), CLONE_NEWNET))
        for door in doors:
            threading.Thread(target=door.serve_forever, args=[0.05], daemon=True).start()
        return self._ran, doors

    def _network(self) -> list[_Door]:
        """Give this thread a network with an interface that leads nowhere, and two ways out."""
        _check(LIBC.unshare(CLONE_NEWNET))
        with socket.socket() as any_of_it:
            up = struct.pack("16sh14x", b"lo", IFF_UP)
            fcntl.ioctl(any_of_it, SIOCSIFFLAGS, up)
            own = struct.pack("16sh2x4s8x", b"lo:1", socket.AF_INET, socket.inet_aton(ADDRESS))
            fcntl.ioctl(any_of_it, SIOCSIFADDR, own)
        lab, metadata = (urlsplit(url).port or 80 for url in (self._lab.url, self.imds.url))
        return [_Door(("127.0.0.1", lab), lab), _Door((ADDRESS, 80), metadata)]


class _Door(socketserver.ThreadingTCPServer):
    """A port of an instance's network that leads to one of this machine's 127.0.0.1."""

    daemon_threads = allow_reuse_address = True

    def __init__(self, address: tuple[str, int], port: int) -> None:
        self.port = port
        super().__init__(address, _Way)


class _Way(socketserver.BaseRequestHandler):
    server: _Door

    def handle(self) -> None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.server.port)) as other:
            back = threading.Thread(target=_pass_on, args=(other, self.request), daemon=True)
            back.start()
            _pass_on(self.request, other)
            back.join()


def _pass_on(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while piece := source.recv(65536):
            sink.sendall(piece)
        sink.shutdown(socket.SHUT_WR)


class InstanceLab(AwsLab):
    """A lab whose instances boot an image."""

    def __init__(self, folder: Path, tree: Path) -> None:
        self._tree = tree
        super().__init__(folder)

    def _machine(self, instance: LabInstance) -> Container:
        return Container(self._tree, instance, self.user_data, self)


@contextmanager
def _control_groups(name: str) -> Iterator[dict[str, str]]:
    """Make groups below this process's; give the environment that puts NSPAWN there.

    They are those that systemd manages, where it wants them: the unified hierarchy, which may be
    the only one, and the one that is called systemd. When the block ends, nothing is left in them.
    """
    made = []
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        for mounted in {"": ("unified", "."), "name=systemd": ("systemd",)}.get(controllers, ()):
            group = Path("/sys/fs/cgroup", mounted, path.lstrip("/"))
            if (group / "cgroup.procs").exists():
                made.append(group / f"spot-backtest-{name}")
                made[-1].mkdir()
                break
    try:
        yield {"PATH": os.environ["PATH"], "OWN": " ".join(map(str, made))}
    finally:
        until(lambda: all(_removed(group) for group in made))


def _removed(group: Path) -> bool:
    for folder, _, _ in os.walk(group, topdown=False):
        with suppress(OSError):  # a process in it is not gone yet
            Path(folder).rmdir()
    return not group.exists()


def _check(returned: int) -> None:
    if returned:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _numbers(pid: int) -> list[str]:
    """Return a process's numbers, from the outermost namespace to its own: NSpid in proc(5)."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("NSpid:"):
                return line.split()[1:]
    return []
