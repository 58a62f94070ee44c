"""The offline AWS for a person: S3, EC2 whose instances are processes here, each call as it comes.

Usage: make lab, or python -m tests.lab [--port PORT]

It listens on 127.0.0.1 only, prints what to type in another terminal, then a line for every call:
time, caller, service, operation, outcome. Ctrl-C, TERM and the end of its terminal end it, and with
it every instance; so does a kill, for an instance's first process holds a pipe from this one.
"""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import sys
import tempfile
import time
from pathlib import Path
from queue import SimpleQueue

from tests.lab import NO_CONFIG
from tests.lab.aws import ROOT, AwsLab, Call

# What of the user's own would lead elsewhere, or into a profile that the lab's files do not have.
ELSEWHERE = ("AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3",
             "AWS_ENDPOINT_URL_EC2", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS")  # fmt: skip
HELLO = """\
an offline AWS on {url}, until Ctrl-C; in another terminal:

cd {root}
unset {elsewhere}
{exports}
{command} --dry-run

Without --dry-run the stages run on an instance: processes here, their files below
{folder}. Each call:
"""
COMMAND = "./spot_backtest.sh --on spot --quick-backtest --allow-dirty"
USAGE = 2


def exports(lab: AwsLab) -> dict[str, str]:
    """Return the variables with which everything finds the lab."""
    found = {**lab.env, "SPOT_STORE": f"s3://{lab.bucket}/play"}
    if Path(sys.prefix) != ROOT / ".venv":  # which the entry would make, or use, otherwise
        found["SPOT_BACKTEST_PYTHON"] = sys.executable
    return found


def hello(lab: AwsLab) -> str:
    """Return what to type in another terminal."""
    return HELLO.format(
        url=lab.url,
        root=shlex.quote(str(ROOT)),
        elsewhere=" ".join(ELSEWHERE),
        exports="\n".join(f"export {k}={shlex.quote(v)}" for k, v in exports(lab).items()),
        command=COMMAND,
        folder=lab.folder,
    )


def line(call: Call) -> str:
    """Return a call as a line, with the time of day at which it was answered."""
    now, caller = time.strftime("%H:%M:%S"), call.caller or "-"
    return f"{now}  {caller:<19}  {call.service:<3}  {call.operation:<30}  {call.outcome}"


def furnish(lab: AwsLab) -> None:
    """Give each pool a price of its own, instances a Python, and `shutdown +N` its minutes."""
    zones = lab.subnets.values()
    for n, kind in enumerate(("c7i", "c6i", "c5", "m7i", "m6i", "m5")):
        at = {(f"{kind}.large", zone): 0.03 + n / 500 + i / 1000 for i, zone in enumerate(zones)}
        lab.prices(at)
    lab.instance_env = {"SPOT_BACKTEST_PYTHON": sys.executable}
    lab.minute = 60.0


def show(lab: AwsLab, calls: SimpleQueue[Call | None]) -> None:
    """Print what comes until nothing more is to come, or nobody reads it."""
    try:
        print(hello(lab), flush=True)
        while (call := calls.get()) is not None:
            print(line(call), flush=True)
        print(f"ends; instances that run: {len(lab.alive())}", flush=True)
    except OSError:  # the terminal or the reader of a pipe is gone
        # docs.python.org/3/library/signal.html#note-on-sigpipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def main() -> int:
    """Run a lab until it is to end."""
    shape = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("python -m tests.lab", None, __doc__, formatter_class=shape)
    parser.add_argument("--port", type=int, default=0, help="any free one if it is not given")
    port = parser.parse_args().port
    calls: SimpleQueue[Call | None] = SimpleQueue()  # whose put() a signal handler may call
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
            signal.signal(number, lambda *_: calls.put(None))
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    os.environ.update(NO_CONFIG)
    with tempfile.TemporaryDirectory(prefix="spot-backtest-lab.") as folder:
        try:
            lab = AwsLab(Path(folder), port)
        except (OSError, OverflowError) as error:
            print(f"lab: cannot listen ({error}, --port {port}); name another", file=sys.stderr)
            return USAGE
        try:
            furnish(lab)
            lab.on_call = calls.put
            show(lab, calls)
        finally:
            lab.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
