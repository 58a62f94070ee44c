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

set -euo pipefail

spot_backtest_main() {
  local root word
  root=$(readlink -f -- "${BASH_SOURCE[0]}")
  root=${root%/*}
  # shellcheck source=infrastructure/environment.sh
  . "$root/infrastructure/environment.sh"
  # shellcheck source=infrastructure/run_stages.sh
  . "$root/infrastructure/run_stages.sh"

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

spot_backtest_main "$@"
