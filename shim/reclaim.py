"""What a stage knows of the launch that it runs in: its name, and that EC2 takes the instance back.

The guest sets both variables; the second names a file that it creates when the notice comes.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

LAUNCH, NOTICE = "SPOT_LAUNCH", "SPOT_RECLAIM"
CODE = 75  # EX_TEMPFAIL of sysexits.h: the same command may be tried again
NAME = re.compile(r"[A-Za-z0-9-]{1,64}")


def launch() -> str | None:
    """Return the name of the launch, None outside of one."""
    name = os.environ.get(LAUNCH, "")
    return name if NAME.fullmatch(name) else None


def noticed() -> bool:
    """Return whether the instance is being taken back."""
    path = os.environ.get(NOTICE)
    return bool(path) and Path(str(path)).exists()
