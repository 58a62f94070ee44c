#!/usr/bin/env bash
# Summary: forward to the entry, arguments intact.
#
# Usage:   infrastructure/spot_backtest.sh [ARGS...]
#
# Why it exists: state machines call this path.

# shellcheck disable=SC2292 # for any sh
[ -n "${BASH_VERSION-}" ] || exec bash -- "$0" "$@"
POSIXLY_CORRECT=1 # see own_shell.sh
\unset -f readlink
spot_backtest_here=$(readlink -f -- "${BASH_SOURCE[0]}")
# shellcheck source=infrastructure/own_shell.sh
. "${spot_backtest_here%/*}/own_shell.sh"

exec "$BASH" -- "${spot_backtest_here%/*/*}/spot_backtest.sh" "$@"
