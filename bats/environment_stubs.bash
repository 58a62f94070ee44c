# shellcheck shell=bash disable=SC2016,SC2154 # text for the child; set by bats and helper_setup
# Summary: stubs for python and uv, and what is asked of infrastructure/environment.sh with them.
#
# Usage:   load helper
#          load environment_stubs
#          stub_python python3.11
#          gives 'spot_backtest: making .venv from requirements/run.txt (pip)'
#
# Why it exists: no test installs a package, and each says which program would have been called.

# environment COMMANDS: runs them as the entry would, in a working directory that cannot be written.
environment() {
  helper_child bash -euo pipefail -c ". '$REPOSITORY/infrastructure/environment.sh'; cd /proc; $1"
}

# stub_python NAME [DIRECTORY]: a Python that runs, makes a .venv with itself in it, and has a pip that
# works; it notes every call but the probe.
stub_python() {
  helper_stub "$@" <<'STUB'
[[ $2 == -c ]] && { printf 'ok\n'; exit; }
printf '%s %s\n' "${0##*/}" "$*" >>"$CALLS"
case $* in
  '-I -m venv --without-pip .venv' | '-I -m venv .venv') mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
  '-I -m pip --version') ;;
  '-I -m pip install --disable-pip-version-check --no-input --require-hashes -r requirements/'*) printf 'pip says much\n' ;;
  *) exit 99 ;;
esac
STUB
}

stub_uv() {
  helper_stub uv <<'STUB'
printf 'uv %s\n' "$*" >>"$CALLS"
[[ $* == 'pip install --python .venv/bin/python --require-hashes -r requirements/'* ]] || exit 99
printf 'uv says much\n'
STUB
}

# stub_uv_at_gate: a uv that notes its call, then waits until the file $GATE is there.
stub_uv_at_gate() {
  helper_stub uv <<'STUB'
printf 'uv %s\n' "$*" >>"$CALLS"
until [[ -e $GATE ]]; do sleep 0.02; done
STUB
}

# gives STDERR: environment_python prints the Python of .venv, and says STDERR.
gives() {
  environment 'environment_python "$ROOT"'
  assert_status 0
  assert_stdout "$VENV/bin/python"
  assert_stderr "$1"
}

# refuses STDERR: environment_python prints nothing, says STDERR and returns 69.
refuses() {
  environment 'environment_python "$ROOT"'
  assert_status 69
  assert_stdout ''
  assert_stderr "$1"
}
