#!/usr/bin/env bats
# Summary: infrastructure/environment.sh, finding a Python, and a .venv of which something was deleted.

# shellcheck disable=SC2016 # what stands in single quotes is expanded by the child
# shellcheck disable=SC2030,SC2031 # each test is a subshell, and changes its own copy
# shellcheck disable=SC2154 # bats and helper_setup set these

load helper
load environment_stubs

setup() {
  helper_setup
  ROOT=$BATS_TEST_TMPDIR/root
  VENV=$ROOT/.venv
  mkdir -p "$ROOT/requirements"
  printf 'boto3==1\n' >"$ROOT/requirements/run.txt"
  CHILD_ENVIRONMENT+=("ROOT=$ROOT")
}

MAKING='spot_backtest: making .venv from requirements/run.txt'

# stub_uv_with_packages: a uv that installs two packages of two modules each.
stub_uv_with_packages() {
  helper_stub uv <<'STUB'
for package in boto3 click; do
  mkdir -p .venv/lib/python3.11/site-packages/$package
  touch .venv/lib/python3.11/site-packages/$package/{__init__,core}.py
done
STUB
}

@test "I71: any Python from 3.11 on will do, by whatever name it is on PATH" {
  local name
  for name in python3.14 python3.15 python3.99 python; do
    rm -rf "$VENV" "$BIN"/python*
    stub_python "$name"
    gives "$MAKING (pip)"
    grep -q "^$name -I -m venv" "$CALLS"
  done
}

@test "the newest Python whose name tells its version comes first, python last" {
  local name
  for name in python python3 python3.9 python3.11 python3.14 python3.14-config python3.13t python2; do
    helper_stub "$name" <<<'exit 1'
  done
  environment environment_pythons
  assert_stdout "$BIN/python3.14
$BIN/python3.11
$BIN/python3.9
$BIN/python3
$BIN/python"
}

@test "what was found is named when none of it will do" {
  helper_stub python3.9 <<<'printf "is Python 3.9\n"'
  refuses "$MAKING (pip)
spot_backtest: there is no Python 3.11 or newer (on PATH: $BIN/python3.9); install one, or name one in SPOT_BACKTEST_PYTHON"
}

@test "I71: a .venv of which something was deleted is made again" {
  local damage
  stub_python python3.11
  stub_uv_with_packages
  environment 'environment_python "$ROOT"'
  gives ''
  for damage in lib lib/python3.11/site-packages lib/python3.11/site-packages/click \
    lib/python3.11/site-packages/boto3/core.py bin run.txt; do
    rm -r "${VENV:?}/$damage"
    gives "$MAKING (uv)"
    gives ''
  done
  touch "$VENV/lib/python3.11/site-packages/more.py"
  gives ''
}

@test "I71: a call that is killed while it deletes the old .venv leaves nothing that counts as made" {
  stub_python python3.11
  stub_uv_with_packages
  environment 'environment_python "$ROOT"'
  rm "$VENV/modules"
  # As rm does it, in any order: here the mark goes first, and then it is killed.
  helper_stub rm <<STUB
[[ \$* != *-rf* ]] || { "$(type -P rm)" -f .venv/unfinished "$VENV/unfinished"; kill -9 \$PPID; exit; }
exec "$(type -P rm)" "\$@"
STUB
  touch "$VENV/unfinished"
  environment 'environment_python "$ROOT"'
  helper_link rm
  gives "$MAKING (uv)"
}

@test "I70: a lock file of the table that is a pipe, or missing, is refused and not waited for" {
  stub_python python3.11
  stub_uv_with_packages
  environment 'environment_python "$ROOT"'
  mkfifo "$ROOT/requirements/example.txt"
  environment 'environment_add "$ROOT" "$ROOT/.venv/bin/python" requirements/example.txt'
  assert_status 78
  assert_stderr "spot_backtest: there is no such file ($ROOT/requirements/example.txt, from requirements in the table); name a lock file, or remove the line"
}
