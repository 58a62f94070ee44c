"""Start the command line, as `python -m shim` or as `python /path/to/shim`.

The second form leaves PYTHONPATH and the working directory alone, so neither reaches a stage nor
shadows a module here; `spot_backtest.sh` uses it.
"""

import sys
from pathlib import Path

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from shim.cli import main

if __name__ == "__main__":
    main()
