"""Start the command line: `python -I /path/to/shim`, the same without -I, or `python -m shim`.

With -I neither PYTHON… variables nor the working directory reach this interpreter;
`spot_backtest.sh` uses that. Started without it, it starts itself again if such a variable is set.
Stages get the variables all the same: nothing is taken out of the environment.
"""

import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

# Held from here on, also over a new start: what comes before its handler is there waits for it
# (shim.detach) and kills nobody. TERM and its like may still end what has not yet begun.
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, signal.SIGUSR2})
HERE = Path(__file__).resolve().parent


def isolate() -> None:
    """Start again with -I if a PYTHON… variable may change what is imported, or how we end.

    PYTHONPATH, PYTHONHOME, PYTHONINSPECT and others: docs.python.org/3/using/cmdline.html. Other
    options of the interpreter are of somebody who looks into us; then everything stays as it is.
    """
    words = sys.orig_argv[1:3]
    plain = words == ["-m", "shim"] or not words[0].startswith("-")
    if plain and not sys.flags.isolated and any(name.startswith("PYTHON") for name in os.environ):
        with suppress(OSError):  # then it goes on as it was started
            os.execv(sys.executable, [sys.executable, "-I", str(HERE), *sys.argv[1:]])  # noqa: S606


if __name__ == "__main__":
    isolate()
    sys.path[0] = str(HERE.parent)  # it was this folder, or the working directory
    interrupt = signal.getsignal(signal.SIGINT)
    if interrupt is signal.default_int_handler:  # until main() can catch it: no traceback
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        from shim.cli import main
    except ImportError as error:
        from shim.installation import lacking

        with suppress(OSError):
            print(f"spot_backtest: {lacking(error)}", file=sys.stderr)
        sys.exit(lacking(error).code)
    signal.signal(signal.SIGINT, interrupt)
    try:
        main()
    finally:
        # Python takes its handlers down before it ends; a signal then would replace the status.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
