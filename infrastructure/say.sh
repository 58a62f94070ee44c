# shellcheck shell=bash
# Summary: what the entry prints, by functions that cannot fail.
#
# Usage:   . infrastructure/say.sh
#          say_error 'what is wrong; what to do'
#          say_text "$table"
#
# Why it exists: under `set -e` a printf that fails, because a disk is full or a reader has gone, ends the
# script with a status that is not the stage's. Nothing that is printed may change a status, stop a run or
# keep one from starting.

# say_error TEXT...: each a line on stderr.
say_error() {
  printf 'spot_backtest: %s\n' "$@" >&2 2>/dev/null || : # nobody can be told
}

# say_text TEXT...: each a line on stdout.
say_text() {
  printf '%s\n' "$@" 2>/dev/null || : # nobody can be told
}
