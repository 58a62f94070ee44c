"""A Debian tree for instances to boot, made by mmdebstrap(1) once on a machine."""

from __future__ import annotations

import inspect
import platform
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.entry import ROOT
from tests.lab import tools

RELEASE = "bookworm"
PACKAGES = ("systemd-sysv", "dbus", "cloud-init", "iproute2", "python3-venv")
LOCK = ROOT / "requirements" / "run.txt"
# What an image holds beside the packages. The network goes at its place of a shutdown: networkd
# drops the addresses that DHCP gave when it stops (KeepConfiguration= in systemd.network(5)),
# ifupdown does the same; the name is ifupdown's, after which cloud-init's units are ordered.
FILES = {
    "etc/cloud/cloud.cfg.d/99-lab.cfg": """
datasource_list: [NoCloud]
network: {config: disabled}
growpart: {mode: "off"}
resize_rootfs: false
cloud_init_modules: []
cloud_config_modules: []
cloud_final_modules: [scripts-user]
""",
    "etc/pip.conf": """
[global]
no-index = true
find-links = /opt/wheels
""",
    "etc/systemd/system/networking.service": """
[Unit]
DefaultDependencies=no
Wants=network.target
Before=network.target shutdown.target
Conflicts=shutdown.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=true
ExecStop=ip link set lo down
""",
}
# Whoever ends the first word ends all that it has started, and no mount of theirs is left; nspawn's
# own end would leave its container.
APART = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")


def tree() -> Path:
    """Return the tree, made if it is not there yet; or skip."""
    how = "".join(map(inspect.getsource, (_make, _download)))
    about = [platform.machine(), RELEASE, *PACKAGES, *FILES, *FILES.values(), how, LOCK.read_text()]
    return tools.installed("debian", "\n".join(about), _make) / "tree"


def _make(folder: Path) -> None:
    made = folder / "tree"
    folder.mkdir()
    given = ("--quiet", "--variant=minbase", f"--include={','.join(PACKAGES)}", RELEASE)
    tools.run(*APART, "mmdebstrap", *given, str(made))
    for name, text in FILES.items():
        (made / name).write_text(text)
    (made / "etc" / "hostname").unlink()  # of the machine that made it
    unit = Path("etc/systemd/system/networking.service")
    wanted = made / unit.with_name("multi-user.target.wants") / unit.name
    wanted.symlink_to(Path("/", unit))
    _download(made / "opt" / "wheels")


def _download(wheels: Path) -> None:
    """Put the packages of the lock into a folder, as wheels for the tree's Python."""
    tags = ("manylinux2014", "manylinux_2_17", "manylinux_2_28")  # bookworm has glibc 2.36
    platforms = (f"--platform={tag}_{platform.machine()}" for tag in tags)
    of = ("--python-version=3.11", "--only-binary=:all:", *platforms)
    with TemporaryDirectory() as own:
        tools.run(sys.executable, "-m", "venv", own)
        pip = (f"{own}/bin/python", "-m", "pip", "download", "--quiet", "--require-hashes")
        tools.run(*pip, *of, "--dest", str(wheels), "-r", str(LOCK))
