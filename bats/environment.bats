#!/usr/bin/env bats
# Summary: infrastructure/environment.sh, making .venv: with stubs for python, uv and pip, and once for real.

# shellcheck disable=SC2016 # what stands in single quotes is expanded by the child
# shellcheck disable=SC2030,SC2031 # each test is a subshell, and changes its own copy
# shellcheck disable=SC2154 # bats and helper_setup set these

load helper
load environment_stubs

setup() {
  helper_setup
  ROOT="$BATS_TEST_TMPDIR/a répo ✓"
  VENV=$ROOT/.venv
  mkdir -p "$ROOT/requirements"
  printf 'boto3==1\n' >"$ROOT/requirements/run.txt"
  printf 'boto3==1\npandas==2\n' >"$ROOT/requirements/example.txt"
  CHILD_ENVIRONMENT+=("LC_ALL=C" "ROOT=$ROOT" "GATE=$BATS_TEST_TMPDIR/gate")
}

UV_RUN='uv pip install --python .venv/bin/python --require-hashes -r requirements/run.txt'
UV_EXAMPLE='uv pip install --python .venv/bin/python --require-hashes -r requirements/example.txt'
PIP_RUN='python -I -m pip install --disable-pip-version-check --no-input --require-hashes -r requirements/run.txt'
MAKING='spot_backtest: making .venv from requirements/run.txt'

@test "the first call makes .venv with uv, says so in one line on stderr, and prints its Python" {
  stub_python python3.11
  stub_uv
  gives "$MAKING (uv)"
  assert_file "$CALLS" "python3.11 -I -m venv --without-pip .venv"$'\n'"$UV_RUN"
  gives ''
}

@test "the first call makes .venv with pip where there is no uv" {
  stub_python python3
  gives "$MAKING (pip)"
  assert_file "$CALLS" 'python3 -I -m venv .venv'$'\n''python -I -m pip --version'$'\n'"$PIP_RUN"
  gives ''
}

@test "a complete .venv is used without starting a program" {
  stub_python python3
  environment 'environment_python "$ROOT"'
  : >"$CALLS"
  rm -r "$BIN"
  run --separate-stderr "$BASH" -euo pipefail -c \
    'PATH=/nowhere; . "$1"; environment_python "$2"' _ "$REPOSITORY/infrastructure/environment.sh" "$ROOT"
  assert_status 0
  assert_stdout "$VENV/bin/python"
  assert_stderr ''
  assert_file "$CALLS" ''
}

@test "a changed lock file is installed into the .venv that is there" {
  stub_python python3.11
  stub_uv
  environment 'environment_python "$ROOT"'
  touch "$VENV/kept"
  : >"$CALLS"
  printf 'boto3==2\n' >"$ROOT/requirements/run.txt"
  gives 'spot_backtest: installing requirements/run.txt into .venv (uv)'
  assert_file "$CALLS" "$UV_RUN"
  [[ -e $VENV/kept ]]
  gives ''
}

@test "a .venv that was left half-made is made again from nothing" {
  local damage
  stub_python python3.11
  stub_uv
  environment 'environment_python "$ROOT"'
  for damage in 'rm "$VENV/run.txt"' 'touch "$VENV/unfinished"' 'ln -sf /nowhere "$VENV/bin/python"'; do
    touch "$VENV/left"
    eval "$damage"
    gives "$MAKING (uv)"
    [[ ! -e $VENV/left ]]
    gives ''
  done
}

@test "a call that is killed while it installs leaves nothing that counts as made (-9)" {
  local pid
  stub_python python3.11
  stub_uv_at_gate
  set -m
  env -i "${CHILD_ENVIRONMENT[@]}" bash -c ". '$REPOSITORY/infrastructure/environment.sh'; environment_python \"\$ROOT\"" 3>&- &
  pid=$!
  set +m
  helper_poll 10 grep -q uv "$CALLS"
  kill -9 -- "-$pid"
  wait "$pid" || :
  [[ -e $VENV/bin/python && ! -e $VENV/run.txt ]]
  touch "$VENV/left"
  stub_uv
  gives "$MAKING (uv)"
  [[ ! -e $VENV/left ]]
  gives ''
}

@test "of two first calls at once, one installs and the other waits and uses it" {
  local first second script=". '$REPOSITORY/infrastructure/environment.sh'; environment_python \"\$ROOT\""
  stub_python python3.11
  stub_uv_at_gate
  env -i "${CHILD_ENVIRONMENT[@]}" bash -euo pipefail -c "$script" >"$BATS_TEST_TMPDIR/1" 2>&1 3>&- &
  first=$!
  helper_poll 10 grep -q uv "$CALLS"
  env -i "${CHILD_ENVIRONMENT[@]}" bash -euo pipefail -c "$script" >"$BATS_TEST_TMPDIR/2" 2>&1 3>&- &
  second=$!
  helper_poll 10 grep -q waiting "$BATS_TEST_TMPDIR/2"
  touch "$BATS_TEST_TMPDIR/gate"
  wait "$first"
  wait "$second"
  assert_file "$BATS_TEST_TMPDIR/1" "$MAKING (uv)"$'\n'"$VENV/bin/python"
  assert_file "$BATS_TEST_TMPDIR/2" \
    'spot_backtest: waiting for another call that is installing into .venv'$'\n'"$VENV/bin/python"
  assert_equal 'the number of installs' 1 "$(grep -c uv "$CALLS")"
}

@test "it works where there is no flock" {
  rm "$BIN/flock"
  stub_python python3
  gives "$MAKING (pip)"
  gives ''
}

@test "when uv cannot install, pip does" {
  stub_python python3.11
  helper_stub uv <<<'printf "something\nerror: no route\n" >&2; exit 2'
  gives "$MAKING (uv)
spot_backtest: uv could not install requirements/run.txt (error: no route); trying pip"
  gives ''
}

@test "when nothing can install, the installer's last lines are shown, and the next call tries again" {
  stub_python python3.11
  helper_stub uv <<<'for n in {1..30}; do printf "line %s\n" "$n"; done; exit 2'
  sed -i 's/printf .pip says much.n./printf "no route\\n"; exit 1/' "$BIN/python3.11"
  refuses "$MAKING (uv)
spot_backtest: uv could not install requirements/run.txt (line 30); trying pip
$(printf 'line %s\n' {12..30})
no route
spot_backtest: could not install the packages (requirements/run.txt, into $VENV; the last lines of what tried are above); mend what they say and run it again, or set SPOT_BACKTEST_PYTHON to a Python that has them"
  stub_uv
  gives "$MAKING (uv)"
  gives ''
}

@test "a Python that does not run, is too old or cannot make an environment is passed over" {
  helper_stub python3.13 <<<'printf "pyenv: python3.13: command not found\n" >&2; exit 127'
  helper_stub python3.12 <<<'printf "is Python 3.9\n"'
  helper_stub python3.11 <<<'[[ $2 == -c ]] && { printf "ok\n"; exit; }; mkdir .venv; printf "no ensurepip\n"; exit 1'
  stub_python python3
  gives "$MAKING (pip)"
  assert_file "$CALLS" 'python3 -I -m venv .venv'$'\n''python -I -m pip --version'$'\n'"$PIP_RUN"
}

@test "behind a shim that does not run, the same name further down PATH is found" {
  helper_stub python3 <<<'exit 127'
  stub_python python3 "$BATS_TEST_TMPDIR/further"
  CHILD_ENVIRONMENT+=("PATH=$BIN:$BATS_TEST_TMPDIR/further")
  gives "$MAKING (pip)"
}

@test "without any Python, uv is asked for one" {
  stub_python python "$BATS_TEST_TMPDIR/managed"
  helper_stub uv <<STUB
[[ \$1 != venv ]] || { printf '%s\n' "\$*" >>"\$CALLS"; mkdir -p .venv/bin; cp '$BATS_TEST_TMPDIR/managed/python' .venv/bin/; }
STUB
  gives "$MAKING (uv)"
  assert_file "$CALLS" 'venv --python >=3.11 .venv'
}

@test "without any Python and without uv, the error says what to install" {
  refuses "$MAKING (pip)
spot_backtest: there is no Python 3.11 or newer (on PATH: no python at all); install one, or name one in SPOT_BACKTEST_PYTHON"
}

@test "when no Python can make an environment, the error shows why" {
  helper_stub python3 <<<'[[ $2 == -c ]] && { printf "ok\n"; exit; }; printf "apt install python3-venv\n"; exit 1'
  refuses "$MAKING (pip)
apt install python3-venv
spot_backtest: could not make a virtual environment ($VENV; the last lines of what tried are above); mend what they say and run it again, or set SPOT_BACKTEST_PYTHON"
}

@test "a .venv that something else made is left alone" {
  stub_python python3
  mkdir "$VENV"
  touch "$VENV/theirs"
  refuses "spot_backtest: this directory was made by something else ($VENV); remove it, or set SPOT_BACKTEST_PYTHON=$VENV/bin/python"
  [[ -e $VENV/theirs ]]
}

@test "a repository that cannot be written is an error that names SPOT_BACKTEST_PYTHON" {
  local drop=()
  if ((EUID == 0)); then
    type -P setpriv || skip 'root may write everywhere, and setpriv is missing'
    drop=("$(type -P setpriv)" --inh-caps=-dac_override --bounding-set=-dac_override)
  fi
  stub_python python3
  chmod a-w "$ROOT"
  helper_child "${drop[@]}" "$BASH" -euo pipefail -c \
    '. "$1"; environment_python "$ROOT"' _ "$REPOSITORY/infrastructure/environment.sh"
  assert_status 69
  assert_stdout ''
  assert_stderr "spot_backtest: cannot make .venv, for this directory cannot be written ($ROOT); set SPOT_BACKTEST_PYTHON to a Python 3.11 or newer that has requirements/run.txt"
}

@test "an added lock file is installed once, and again when it changes" {
  local add='python=$(environment_python "$ROOT"); environment_add "$ROOT" "$python" requirements/example.txt'
  stub_python python3.11
  stub_uv
  environment "$add"
  assert_status 0
  assert_stdout ''
  assert_stderr "$MAKING (uv)
spot_backtest: installing requirements/example.txt into .venv (uv)"
  : >"$CALLS"
  environment "$add"
  assert_stderr ''
  assert_file "$CALLS" ''
  printf 'pandas==3\n' >"$ROOT/requirements/example.txt"
  environment "$add"
  assert_stderr 'spot_backtest: installing requirements/example.txt into .venv (uv)'
  assert_file "$CALLS" "$UV_EXAMPLE"
}

@test "an added lock file that cannot be installed leaves the environment usable" {
  stub_python python3.11
  stub_uv
  environment 'environment_python "$ROOT"'
  helper_stub uv <<<'exit 2'
  sed -i 's/printf .pip says much.n./exit 1/' "$VENV/bin/python"
  environment 'environment_add "$ROOT" "$ROOT/.venv/bin/python" requirements/example.txt'
  assert_status 69
  gives ''
}

# bats test_tags=slow
@test "a real .venv is made with an empty environment, and its packages import" {
  [[ -z ${SPOT_BACKTEST_PYTHON:-} ]] || skip 'SPOT_BACKTEST_PYTHON is set: nothing is to be installed here'
  cp "$REPOSITORY/requirements/run.txt" "$ROOT/requirements/"
  helper_stub python3 <<<"exec '$(python -c 'import sys; print(sys._base_executable)')' \"\$@\""
  environment 'python=$(environment_python "$ROOT"); "$python" -c "import boto3, click, dateutil, dotenv"; environment_probe "$python" boto3 click dateutil dotenv'
  assert_status 0
  assert_stdout ok
  assert_stderr "$MAKING (pip)"
  gives ''
}
