#!/usr/bin/env bash
# Summary: forward to the entry, arguments intact.
#
# Usage:   infrastructure/spot_backtest.sh [ARGS...]
#
# Why it exists: state machines call this path.

# shellcheck disable=SC2292 # for any sh
[ -n "${BASH_VERSION-}" ] || exec bash -- "$0" "$@"
POSIXLY_CORRECT=1 # see own_shell.sh
trap '' PIPE USR1 USR2
\unset -f readlink
spot_backtest_here=$(readlink -f -- "${BASH_SOURCE[0]}")
# shellcheck source=infrastructure/own_shell.sh
. "${spot_backtest_here%/*}/own_shell.sh"

trap : USR1 USR2 # what is ignored now could never be trapped in there (bash(1), «trap»)
exec "$BASH" -- "${spot_backtest_here%/*/*}/spot_backtest.sh" "$@"
