#!/usr/bin/env bash
# Summary: forward to the entry, arguments intact.
#
# Usage:   infrastructure/spot_backtest.sh [ARGS...]
#
# Why it exists: state machines call this path.
set -euo pipefail

here=$(readlink -f -- "${BASH_SOURCE[0]}")
exec bash "${here%/*/*}/spot_backtest.sh" "$@"
