#!/usr/bin/env bats
# Summary: .ci/suite, on a small repository of its own: a failing test fails it, a skipped one is counted.

# shellcheck disable=SC2154 # bats and helper_setup set these

load helper

setup() {
  helper_setup
  ROOT=$BATS_TEST_TMPDIR/root
  mkdir -p "$ROOT"/{.ci,bats,infrastructure,tests}
  cp "$REPOSITORY/.ci/suite" "$ROOT/.ci/"
  cp "$REPOSITORY/infrastructure/environment.sh" "$ROOT/infrastructure/"
  printf '[tool.pytest.ini_options]\naddopts = "-ra"\nmarkers = ["slow"]\n' >"$ROOT/pyproject.toml"
  CHILD_ENVIRONMENT+=("SPOT_BACKTEST_PYTHON=$(type -P python)" "PATH=/usr/bin:/bin")
}

# summary: what the suite says at its end, without the durations.
summary() {
  sed -e '1,/^== summary$/d' -e 's/ *[0-9]* s$//' -e 's/ in [0-9]*ms//' <<<"$output"
}

@test "every check runs, one that fails fails the suite, and skipped tests are listed with their reasons" {
  cat >"$ROOT/tests/test_a.py" <<'PYTHON'
import pytest


@pytest.mark.parametrize("n", [1, 2])
def test_skipped(n):
    pytest.skip("no faketime")


def test_fails():
    assert False
PYTHON
  printf '@test "%s" { %s; }\n' passes true 'is skipped' 'skip "no zsh"' >"$ROOT/bats/a.bats"
  helper_child "$ROOT/.ci/suite" quick
  assert_status 1
  assert_equal 'the summary' 'pytest         FAILED (1)
bats           passed
skipped tests: 3
  pytest [2] tests/test_a.py:6: no faketime
  bats is skipped # skip no zsh' "$(summary)"
}

@test "a run that finds no tests fails, and one in which all pass does not" {
  helper_child "$ROOT/.ci/suite" quick
  assert_status 1
  assert_equal 'the summary' 'pytest         FAILED (5)
bats           FAILED (1)
skipped tests: 0' "$(summary)"
  printf 'def test_passes():\n    pass\n' >"$ROOT/tests/test_a.py"
  printf '@test "passes" { true; }\n' >"$ROOT/bats/a.bats"
  helper_child "$ROOT/.ci/suite" quick
  assert_status 0
  assert_equal 'the summary' 'pytest         passed
bats           passed
skipped tests: 0' "$(summary)"
}
