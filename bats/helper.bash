# shellcheck shell=bash disable=SC2034,SC2154 # set here for the tests; set by bats and its run
# Summary: what every bats file needs: a home of its own, a PATH that it builds, exact assertions.
#
# Usage:   load helper
#          setup() { helper_setup; }
#          helper_stub uv <<<'printf "uv %s\n" "$*" >>"$CALLS"'
#          helper_child some-command argument
#          assert_status 69
#          assert_stderr 'spot_backtest: …'
#
# Why it exists: a test that sees the machine's own tools, home or variables passes here and fails there.
# So what is tested runs in a child with an empty environment, and sees only what the test gave it.

bats_require_minimum_version 1.5.0

# helper_setup: $REPOSITORY, and below $BATS_TEST_TMPDIR: $HOME_DIR (empty), $BIN (the child's PATH: the
# system's small tools and this test's stubs, no Python), $CALLS (what the stubs note).
helper_setup() {
  REPOSITORY=$(cd -- "$BATS_TEST_DIRNAME/.." && pwd)
  HOME_DIR=$BATS_TEST_TMPDIR/home
  BIN=$BATS_TEST_TMPDIR/bin
  CALLS=$BATS_TEST_TMPDIR/calls
  CHILD_ENVIRONMENT=("PATH=$BIN" "CALLS=$CALLS")
  mkdir -p "$HOME_DIR" "$BIN"
  : >"$CALLS"
  helper_link bash cat chmod cp dirname env flock ln ls mkdir mktemp mv rm sleep tail touch
}

# helper_link NAME…: the machine's own program, on the child's PATH.
helper_link() {
  local name path
  for name; do
    path=$(type -P "$name") && ln -sf "$path" "$BIN/$name"
  done
}

# helper_stub NAME [DIRECTORY]: a bash script from stdin, on the child's PATH or in DIRECTORY.
helper_stub() {
  local name=$1 directory=${2:-$BIN}
  mkdir -p "$directory"
  rm -f -- "$directory/$name" # a link there leads to the machine's own program
  { printf '#!%s\n' "$BASH" && cat; } >"$directory/$name"
  chmod +x "$directory/$name"
}

# helper_child CMD…: runs CMD with nothing in its environment but CHILD_ENVIRONMENT.
helper_child() {
  run --separate-stderr env -i "${CHILD_ENVIRONMENT[@]}" "$@"
}

# helper_poll SECONDS CMD…: waits until CMD succeeds; fails after SECONDS.
helper_poll() {
  local deadline=$((SECONDS + $1))
  shift
  until "$@"; do
    ((SECONDS < deadline)) || return 1
    sleep 0.02
  done
}

assert_status() {
  assert_equal 'the status' "$1" "$status"
}

assert_stdout() {
  assert_equal stdout "$1" "$output"
}

assert_stderr() {
  assert_equal stderr "$1" "$stderr"
}

# assert_file FILE TEXT: FILE holds exactly TEXT and a newline, or nothing at all.
assert_file() {
  assert_equal "$1" "$2" "$(<"$1")"
}

# assert_equal WHAT EXPECTED ACTUAL
assert_equal() {
  [[ $2 == "$3" ]] && return
  printf '%s should be\n%s\nbut is\n%s\n' "$1" "$2" "$3" >&2
  [[ $1 == stderr ]] || printf 'stderr was\n%s\n' "${stderr:-}" >&2
  return 1
}
