#!/usr/bin/env bats
# Summary: the lock files in requirements/, as anyone may install them.

# shellcheck disable=SC2154 # bats and helper_setup set these

load helper

setup() {
  helper_setup
}

@test "the lock files hold hashes for every package, agree, and name no address and no path" {
  local name pins all=''
  cd "$REPOSITORY/requirements"
  for name in run example dev; do
    run ! grep -nE '://|(^|[^a-z])/[a-z]' "$name.txt"
    pins=$(grep -oE '^[a-z0-9][^ ]*==[^ ]+' "$name.txt")
    all+=$pins$'\n'
    assert_equal "pins without a hash in $name.txt" '' \
      "$(awk '/^[a-z0-9]/ { if (pin) print pin; pin = $1 } /--hash=sha256:/ { pin = "" } END { if (pin) print pin }' "$name.txt")"
  done
  assert_equal 'pins of run and example that dev does not hold' '' \
    "$(comm -23 <(sort -u <<<"$all") <({
      grep -oE '^[a-z0-9][^ ]*==[^ ]+' dev.txt
      printf '\n'
    } | sort -u))"
  for name in boto3 click python-dateutil python-dotenv; do
    grep -q "^$name==" run.txt
  done
}
