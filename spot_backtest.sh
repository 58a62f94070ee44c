#!/usr/bin/env bash
# Summary: run the stages of a batch pipeline, all under one run date.
#
# Usage:   spot_backtest.sh [OPTIONS]          plan, check, run every planned stage
#          spot_backtest.sh COMMAND [ARGS...]  plan, preflight, stage, status, capture, follow, reap, asl;
#                                              COMMAND --help
#
# The run date is --date, else RUN_DATE, else today in UTC. It is resolved once, before anything
# else, and carried as data into every stage, log and record. On first use the Python packages are
# installed into .venv; SPOT_BACKTEST_PYTHON names an interpreter that has them already.
#
# Artifacts go to backtest/<run date>/ in the store, logs to _ssm_logs/<slug>/<run date>/.
#
# Exit codes: 0 committed, 2 usage, 65 broken contract, 69 something is missing, 70 our own bug,
# 73 not written, 75 busy, reclaimed or no capacity: try again, 77 credentials, 78 the table is
# wrong, 124 timeout, else the stage's own.

# Any sh understands the lines up to the first `.`, and an old bash too.
# shellcheck disable=SC2292 # which [[ ]] would not be
[ -n "${BASH_VERSION-}" ] || exec bash -- "$0" "$@"
case $BASH_VERSION in
  [1-3].* | 4.[0-3].*)
    printf 'spot_backtest: this bash is too old (%s); install bash 4.4 or newer, and have it first on PATH\n' "$BASH_VERSION" >&2
    exit 69
    ;;
  *) ;;
esac
POSIXLY_CORRECT=1      # see infrastructure/own_shell.sh
trap '' PIPE USR1 USR2 # a reader may go away; what a stage is to hear waits until there is one
\unset -f readlink
spot_backtest_root=$(readlink -f -- "${BASH_SOURCE[0]}")
spot_backtest_root=${spot_backtest_root%/*}
# shellcheck source=infrastructure/own_shell.sh
. "$spot_backtest_root/infrastructure/own_shell.sh"

set -euo pipefail
# shellcheck source=infrastructure/say.sh
. "$spot_backtest_root/infrastructure/say.sh"
# shellcheck source=infrastructure/environment.sh
. "$spot_backtest_root/infrastructure/environment.sh"
# shellcheck source=infrastructure/children.sh
. "$spot_backtest_root/infrastructure/children.sh"
# shellcheck source=infrastructure/run_stages.sh
. "$spot_backtest_root/infrastructure/run_stages.sh"

spot_backtest_main() {
  local root=$1 word
  shift
  children_listen TERM INT HUP QUIT
  if [[ ${1--} == -* && -z ${_SPOT_BACKTEST_SH_COMPLETE-} ]]; then
    for word in "$@"; do
      case $word in
        -h | --help) run_stages_help "$root" ;;
        --version) run_stages_shim "$root" --version ;;
        *) continue ;;
      esac
      return
    done
    run_stages "$root" "$@"
    return
  fi
  run_stages_shim "$root" "$@"
}

spot_backtest_main "$spot_backtest_root" "$@"
