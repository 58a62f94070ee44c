"""Start the command line, as `python -m shim` or as `python /path/to/shim`.

The second form leaves PYTHONPATH and the working directory alone, so neither reaches a stage nor
shadows a module here; `spot_backtest.sh` uses it.
"""

import _signal  # type: ignore[import-not-found]  # the part of signal that is there at once
import sys

if __name__ == "__main__":
    # A signal that comes while the rest is imported waits: the command that it is for is not there
    # yet, and it would kill us. shim.cli and shim.detach let signals through again.
    _signal.pthread_sigmask(_signal.SIG_BLOCK, _signal.valid_signals())

from pathlib import Path

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from shim.cli import main

if __name__ == "__main__":
    main()
