#!/usr/bin/env bats
# Summary: infrastructure/environment.sh, using the interpreter that SPOT_BACKTEST_PYTHON names.

# shellcheck disable=SC2016 # what stands in single quotes is expanded by the child
# shellcheck disable=SC2030,SC2031 # each test is a subshell, and changes its own copy
# shellcheck disable=SC2154 # bats and helper_setup set these

load helper

setup() {
  helper_setup
  ROOT=$BATS_TEST_TMPDIR/root
  mkdir -p "$ROOT/requirements"
  CHILD_ENVIRONMENT+=("ROOT=$ROOT")
}

# environment COMMANDS: runs them as the entry would.
environment() {
  helper_child bash -euo pipefail -c ". '$REPOSITORY/infrastructure/environment.sh'; cd /proc; $1"
}

# gives PATH: environment_python prints PATH and says nothing.
gives() {
  environment 'environment_python "$ROOT"'
  assert_status 0
  assert_stdout "$1"
  assert_stderr ''
}

# refuses STDERR: environment_python prints nothing, says STDERR and returns 69.
refuses() {
  environment 'environment_python "$ROOT"'
  assert_status 69
  assert_stdout ''
  assert_stderr "$1"
}

@test "SPOT_BACKTEST_PYTHON is used as it is, and nothing is installed" {
  local name
  helper_stub mine "$BATS_TEST_TMPDIR" <<<'printf "ok\n"'
  helper_stub mine <<<'printf "ok\n"'
  for name in "$BATS_TEST_TMPDIR/mine" ../"${BATS_TEST_TMPDIR#/}"/mine mine; do
    CHILD_ENVIRONMENT+=("SPOT_BACKTEST_PYTHON=$name")
    environment 'python=$(environment_python "$ROOT"); environment_add "$ROOT" "$python" requirements/example.txt; printf "%s\n" "$python"'
    assert_status 0
    assert_stderr ''
    case $name in
      /*) assert_stdout "$name" ;;
      mine) assert_stdout "$BIN/mine" ;;
      *) assert_stdout "/proc/$name" ;;
    esac
  done
  [[ ! -e $ROOT/.venv && ! -e $ROOT/.venv.lock ]]
}

@test "nothing is installed into .venv either, when SPOT_BACKTEST_PYTHON names its Python" {
  helper_stub python "$ROOT/.venv/bin" <<<'[[ $2 == -c ]] && printf "ok\n"'
  CHILD_ENVIRONMENT+=("SPOT_BACKTEST_PYTHON=$ROOT/.venv/bin/python")
  gives "$ROOT/.venv/bin/python"
  environment 'environment_add "$ROOT" "$ROOT/.venv/bin/python" requirements/example.txt'
  assert_status 0
  assert_stderr ''
  [[ ! -e $ROOT/.venv.lock ]]
}

@test "a SPOT_BACKTEST_PYTHON that is missing, not a Python or too old is an error" {
  local name expected
  helper_stub old <<<'printf "is Python 3.9\n"'
  helper_stub no-python <<<'exit 0'
  touch "$BATS_TEST_TMPDIR/plain"
  for name in /nowhere/python "$BATS_TEST_TMPDIR/plain" /proc old no-python; do
    case $name in
      old) expected="the interpreter is Python 3.9 (old, from SPOT_BACKTEST_PYTHON); name a Python 3.11 or newer, or unset it" ;;
      no-python) expected="the interpreter does not run as Python (no-python, from SPOT_BACKTEST_PYTHON); name a Python 3.11 or newer, or unset it" ;;
      *) expected="there is no such program ($name, from SPOT_BACKTEST_PYTHON); name a Python 3.11 or newer, or unset it" ;;
    esac
    CHILD_ENVIRONMENT+=("SPOT_BACKTEST_PYTHON=$name")
    refuses "spot_backtest: $expected"
  done
}

@test "a SPOT_BACKTEST_PYTHON without the packages is an error that names them, one with them is used" {
  python -m venv --without-pip "$BATS_TEST_TMPDIR/bare"
  CHILD_ENVIRONMENT+=("SPOT_BACKTEST_PYTHON=$BATS_TEST_TMPDIR/bare/bin/python")
  refuses "spot_backtest: the interpreter lacks boto3 click dateutil dotenv jsonpath_ng yaml tree_sitter tree_sitter_bash ($BATS_TEST_TMPDIR/bare/bin/python, from SPOT_BACKTEST_PYTHON); install requirements/run.txt there, or unset it"
  touch "$BATS_TEST_TMPDIR"/{boto3,click,dateutil,dotenv}.py
  environment 'cd "$ROOT/.."; environment_python "$ROOT"'
  assert_status 69 # files in the working directory are not packages
  CHILD_ENVIRONMENT+=("SPOT_BACKTEST_PYTHON=$(type -P python)")
  gives "$(type -P python)"
}
