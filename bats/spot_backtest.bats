#!/usr/bin/env bats
# Summary: spot_backtest.sh and its loop, with a stub in place of the shim: what is called, with what, and how it ends.

# shellcheck disable=SC2016 # text that a shell must never expand is what some tests are about
# shellcheck disable=SC2030,SC2031 # each test is a subshell, and changes its own copy
# shellcheck disable=SC2154 # bats and helper_setup set these

load helper

setup() {
  helper_setup
  helper_link grep kill readlink tr sh
  ENTRY=$REPOSITORY/spot_backtest.sh
  ANSWER=$BATS_TEST_TMPDIR/answer
  mkdir "$ANSWER" "$BATS_TEST_TMPDIR/tmp"
  CHILD_ENVIRONMENT+=("SPOT_BACKTEST_PYTHON=$BIN/python" "ANSWER=$ANSWER" "TMPDIR=$BATS_TEST_TMPDIR/tmp")
  stub_shim
  plans one two three
}

# stub_shim: a python whose shim notes each call, answers `entry` from a file, and ends each stage as told.
stub_shim() {
  helper_stub python <<'STUB'
[[ $2 == -c ]] && { printf 'ok\n'; exit; }
shift 2
line=$*
line=${line%% --report*}
printf '%s\n' "${line%% --parent*}" >>"$CALLS"
case $1 in
  entry)
    cat "$ANSWER/pairs"
    exit "$(cat "$ANSWER/entry" 2>/dev/null || printf 0)"
    ;;
  options) printf 'Options:\n  --date DATE\n' ;;
  preflight)
    cat >"$ANSWER/preflight.stdin"
    exit "$(cat "$ANSWER/preflight" 2>/dev/null || printf 0)"
    ;;
  stage)
    cat >"$ANSWER/$2.stdin"
    printf '%s\n' "${RUN_DATE-unset}" >"$ANSWER/$2.date"
    trap 'printf "got %s\n" TERM >>"$CALLS"; exit 7' TERM
    [[ ! -e $ANSWER/$2.waits ]] || { : >"$ANSWER/$2.started"; while :; do sleep 0.05; done; }
    printf 'committed\n12\nstore/%s.log\n' "$2" >"$4"
    exit "$(cat "$ANSWER/$2" 2>/dev/null || printf 0)"
    ;;
  spot)
    cat >"$ANSWER/spot.stdin"
    exit "$(cat "$ANSWER/spot" 2>/dev/null || printf 0)"
    ;;
  *) printf 'shim:' && printf ' <%s>' "$@" && printf '\n' ;;
esac
STUB
}

# plans STAGE…: the shim plans these, for a run date.
plans() {
  local stage
  printf '%s\0' plan '{"the":"plan $(id) `id`"}' run_date 2026-05-17 notice 'run date 2026-05-17 $(id)' >"$ANSWER/pairs"
  for stage; do
    printf '%s\0' stage "$stage" row "$stage" >>"$ANSWER/pairs"
  done
}

@test "one plan, one preflight, one call per stage, in order; then the table" {
  helper_child "$ENTRY" --date 2026-05-17
  assert_status 0
  assert_stdout 'stage        outcome             seconds  log
one          committed                12  store/one.log
two          committed                12  store/two.log
three        committed                12  store/three.log'
  assert_stderr 'spot_backtest: run date 2026-05-17 $(id)'
  assert_file "$CALLS" 'entry --date 2026-05-17
preflight --plan -
stage one
stage two
stage three'
}

@test "the preflight and every stage get the plan as the shim printed it" {
  helper_child "$ENTRY"
  for name in preflight one two three; do
    assert_file "$ANSWER/$name.stdin" '{"the":"plan $(id) `id`"}'
  done
}

@test "RUN_DATE of the plan is what every stage sees, whatever the caller exported" {
  CHILD_ENVIRONMENT+=(RUN_DATE=2020-01-01T00:00:00Z)
  helper_child "$ENTRY"
  assert_file "$ANSWER/one.date" 2026-05-17
  assert_file "$ANSWER/three.date" 2026-05-17
}

@test "I14: a plan for an instance is one call of the launcher with it, and its status leaves" {
  printf '%s\0' on spot >>"$ANSWER/pairs"
  printf 75 >"$ANSWER/spot"
  helper_child "$ENTRY" --on spot
  assert_status 75
  assert_file "$CALLS" 'entry --on spot
spot --plan -'
  assert_file "$ANSWER/spot.stdin" '{"the":"plan $(id) `id`"}'
}

@test "arguments reach the shim as they are" {
  helper_child "$ENTRY" --store 'a b*$(id)"' --skip-stages='x, y' ''
  assert_equal 'first call' "entry --store a b*\$(id)\" --skip-stages=x, y " "$(head -n 1 "$CALLS")"
}

@test "I03: a stage's exit code leaves as it is, and nothing runs after it" {
  local code
  for code in 1 2 3 65 69 75 124 126 130 137 143 194 255; do
    printf '%d' "$code" >"$ANSWER/two"
    helper_child "$ENTRY"
    assert_status "$code"
    assert_equal "the rows after $code" 'three        not run                   -  -' "${lines[-1]}"
  done
  [[ ! -e $ANSWER/three.stdin ]]
}

@test "I03: a failing plan or preflight ends the run with its code before any stage" {
  printf 69 >"$ANSWER/preflight"
  helper_child "$ENTRY"
  assert_status 69
  printf 2 >"$ANSWER/entry"
  helper_child "$ENTRY"
  assert_status 2
  [[ ! -e $ANSWER/one.stdin ]]
}

@test "I32: under SSM 137 and 194 leave as 1 and the true code is printed; others stay" {
  CHILD_ENVIRONMENT+=(SSM_COMMAND_ID=11111111-2222)
  local code
  for code in 137 194; do
    printf '%d' "$code" >"$ANSWER/one"
    helper_child "$ENTRY"
    assert_status 1
    [[ $stderr == *"the exit code is $code; it leaves as 1"* ]]
  done
  printf 143 >"$ANSWER/one"
  helper_child "$ENTRY"
  assert_status 143
}

@test "a shim that dies without a report shows as lost, with its status" {
  helper_stub broken <<'STUB'
case $3 in
  entry) cat "$ANSWER/pairs" ;;
  stage) kill -KILL $$ ;;
esac
[[ $2 != -c ]] || printf 'ok\n'
STUB
  CHILD_ENVIRONMENT+=("SPOT_BACKTEST_PYTHON=$BIN/broken")
  helper_child "$ENTRY"
  assert_status 137
  assert_equal 'the row' 'one          lost                      -  -' "${lines[1]}"
}

@test "a signal reaches the running stage at once; its status leaves; nothing runs after it" {
  : >"$ANSWER/two.waits"
  env -i "${CHILD_ENVIRONMENT[@]}" "$ENTRY" >"$BATS_TEST_TMPDIR/out" 2>&1 &
  local pid=$! code=0
  helper_poll 10 test -e "$ANSWER/two.started"
  kill -TERM "$pid"
  wait "$pid" || code=$?
  assert_equal 'the status' 7 "$code"
  grep -qx 'got TERM' "$CALLS"
  [[ ! -e $ANSWER/three.stdin ]]
}

@test "--preflight-only runs no stage; nothing planned is no failure; quiet prints nothing" {
  printf '%s\0' preflight_only 1 >>"$ANSWER/pairs"
  helper_child "$ENTRY" --preflight-only
  assert_status 0
  [[ ! -e $ANSWER/one.stdin ]]
  plans
  helper_child "$ENTRY"
  assert_status 0
  plans one
  printf '%s\0' quiet 1 >>"$ANSWER/pairs"
  helper_child "$ENTRY" --quiet
  assert_status 0
  assert_stdout ''
  assert_stderr ''
}

@test "I62: a plan that comes back empty is a bug of ours and no success" {
  local pairs
  for pairs in '' 'plan {}' 'run_date 2026-05-17' 'stage one row one'; do
    # shellcheck disable=SC2086 # words
    printf '%s\0' $pairs >"$ANSWER/pairs"
    helper_child "$ENTRY"
    assert_status 70
    assert_stdout ''
    assert_stderr "spot_backtest: internal error: the plan came back empty (from $BIN/python -I $REPOSITORY/shim entry); nothing has run; please report it"
  done
  [[ ! -e $ANSWER/one.stdin ]]
}

@test "the temporary directory is gone after success and after failure" {
  helper_child "$ENTRY"
  printf 3 >"$ANSWER/one"
  helper_child "$ENTRY"
  assert_equal 'what is left' '' "$(ls -A "$BATS_TEST_TMPDIR/tmp")"
}

@test "--help prints the header and the shim's options, and --version the shim's version" {
  helper_child "$ENTRY" --store x --help
  assert_status 0
  assert_equal 'the first line' 'Summary: run the stages of a batch pipeline, all under one run date.' "${lines[0]}"
  assert_equal 'the last line' '  --date DATE' "${lines[-1]}"
  [[ $output != *'set -euo'* ]]
  helper_child "$ENTRY" --version
  assert_stdout 'shim: <--version>'
}

@test "a first word that is no flag goes to the shim with its arguments" {
  helper_child "$ENTRY" capture --slug s -- 'a  b' '' '*'
  assert_stdout 'shim: <capture> <--slug> <s> <--> <a  b> <> <*>'
}

@test "infrastructure/spot_backtest.sh forwards arguments and status, also through a link" {
  ln -s "$REPOSITORY/infrastructure/spot_backtest.sh" "$BATS_TEST_TMPDIR/a link"
  helper_child "$BATS_TEST_TMPDIR/a link" capture 'a  b' '' '$(id)'
  assert_stdout 'shim: <capture> <a  b> <> <$(id)>'
  printf 65 >"$ANSWER/one"
  helper_child "$REPOSITORY/infrastructure/spot_backtest.sh" --date 2026-05-17
  assert_status 65
}

@test "I23: an environment without HOME, a working directory that cannot be read, another shell's options" {
  CHILD_ENVIRONMENT+=(SHELLOPTS=nounset)
  helper_child sh -c "cd /proc && exec bash '$ENTRY' --date 2026-05-17"
  assert_status 0
}
