#!/bin/bash
# Summary: an instance's whole life: deadline, code, environment, the planned stages, shutdown.
#
# Usage:   verbatim the user data of infrastructure/launch_template.yaml; cloud-init runs it as root.
#
# Everything it needs to know stands in the launch record that the instance's tag names; nothing in it is
# evaluated by a shell. Settings from the environment, for a machine that is not EC2's:
# AWS_EC2_METADATA_SERVICE_ENDPOINT, SPOT_HOME (where it works), SPOT_LOG (what it says), and
# SPOT_BACKTEST_PYTHON (an interpreter that has the packages; nothing is restored or installed then).
#
# Why it exists: whatever happens here, the instance must end by itself, and what it said must be readable
# afterwards. So the deadline is armed before anything that can fail or hang, and a failure before the
# stages is put into the store with the log of this script.

set -uo pipefail
umask 077
export PATH=${PATH:-/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin} LANG=${LANG:-C.UTF-8}
export SPOT_HOME=${SPOT_HOME:-/var/lib/spot-backtest} SPOT_LOG=${SPOT_LOG:-/var/log/spot-backtest.log}
export HOME=${HOME:-$SPOT_HOME}
# botocore asks the metadata service once, for a second, and then there are no credentials: exit 77.
export AWS_METADATA_SERVICE_NUM_ATTEMPTS=5 AWS_METADATA_SERVICE_TIMEOUT=5
unset -v RUN_DATE
readonly FIRST=1800 # seconds for all that comes before the real deadline is known
readonly HELPER=$SPOT_HOME/helper.py

# arm SECONDS UNIT: power off then, whatever this script does; systemd-run(1) makes a timer of systemd's own.
arm() {
  systemd-run --quiet --collect --unit="$2" --on-active="${1}s" shutdown -h now && return
  say "systemd-run cannot set a timer; shutdown(8) does"
  shutdown -h "+$((($1 + 59) / 60))"
}

# apart: goes on in a unit of its own, which a shutdown ends while the network is still there. That of user
# data, cloud-final.service, has KillMode=process (systemd.kill(5)): it would leave this script and all that it
# started to the SIGTERM that goes to whatever is left after the last unit.
apart() {
  local systemd=org.freedesktop.systemd1
  busctl --quiet call "$systemd" "/${systemd//.//}" "$systemd.Manager" StartTransientUnit 'ssa(sv)a(sa(sv))' \
    spot-backtest.scope fail 3 PIDs au 1 "$$" After as 1 network-online.target TimeoutStopUSec t 180000000 0 \
    || say "systemd gives it no unit of its own; what a shutdown ends may not be able to say so"
}

say() {
  printf 'bootstrap: %s\n' "$1"
}

helper() {
  python3 -I "$HELPER" "$@"
}

# leave: every way out of this script. A guest that ended well has closed the record.
leave() {
  local status=$?
  trap - EXIT
  trap '' TERM INT HUP
  ((status == 0)) || helper fail "${step} failed on the instance" || say "could not say so in the store"
  say "ends"
  shutdown -h now || systemctl poweroff --force || poweroff -f
}

# environment ENTRY: prints the interpreter: an archived environment, or one that is made, and archived then.
environment() {
  local entry=$1 name='' candidate lock
  local -a locks
  # shellcheck source=infrastructure/environment.sh
  . "$entry/infrastructure/environment.sh"
  if [[ -n ${SPOT_BACKTEST_PYTHON-} ]]; then
    environment_python "$entry"
    return
  fi
  mapfile -t locks < <(helper locks)
  for candidate in $(environment_pythons); do
    [[ $(environment_probe "$candidate") == ok ]] || continue
    name=$("$candidate" -I "$HELPER" name "$entry" "${locks[@]}") && break
  done
  if [[ -n $name ]] && helper get "$name" "$SPOT_HOME/environment" \
    && tar -C "$entry" -xzf "$SPOT_HOME/environment" && environment_whole "$entry" "${locks[@]}"; then
    say "restored $name" >&2
    printf '%s\n' "$entry/.venv/bin/python"
    return
  fi
  say "makes the environment; no archive of it could be used (${name:-no Python})" >&2
  rm -rf -- "$entry/.venv"
  environment_python "$entry" >"$SPOT_HOME/python" || return
  for lock in "${locks[@]:1}"; do
    environment_add "$entry" "$entry/.venv/bin/python" "$lock" || return
  done
  if [[ -n $name ]] && tar -C "$entry" -czf "$SPOT_HOME/environment" .venv \
    && helper put "$name" "$SPOT_HOME/environment"; then
    say "archived $name" >&2
  fi
  cat -- "$SPOT_HOME/python"
}

environment_whole() {
  local entry=$1 lock
  for lock in "${@:2}"; do
    environment_current "$entry" "$lock" || return
  done
  [[ $(environment_probe "$entry/.venv/bin/python" boto3 click) == ok ]]
}

main() {
  local seconds entry python endpoint region
  step='the start'
  mkdir -p -- "$SPOT_HOME" && exec >>"$SPOT_LOG" 2>&1 </dev/null
  arm "$FIRST" spot-backtest-first
  apart
  trap leave EXIT
  trap 'exit 143' TERM INT HUP
  helper_text >"$HELPER" || exit
  step='reading the instance tags'
  seconds=$(helper seconds) || exit
  arm "$seconds" spot-backtest-deadline || exit
  systemctl stop spot-backtest-first.timer
  say "the instance ends in $seconds s at the latest"
  step='reading the launch record'
  helper record || exit
  step='restoring the code'
  entry=$(helper code) || exit
  step='restoring the Python environment'
  python=$(environment "$entry") || exit
  region=$(helper tag spot-backtest:region) && export AWS_REGION=$region
  endpoint=$(helper endpoint)
  [[ -z $endpoint ]] || export AWS_ENDPOINT_URL=$endpoint
  step='running the stages'
  "$python" -I "$entry/shim" guest --record "$SPOT_HOME/record.json" --log "$SPOT_LOG"
}

helper_text() {
  cat <<'PYTHON'
"""What bash cannot do: metadata, signed requests to the store, the record. Standard library only."""
import contextlib, datetime as dt, errno, hashlib, hmac, io, json, os, platform, re, shutil, sys, tarfile, time
import urllib.error, urllib.parse, urllib.request

IMDS = (os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT") or "http://169.254.169.254").rstrip("/")
HOME, LOG = os.environ["SPOT_HOME"], os.environ["SPOT_LOG"]
RECORD = HOME + "/record.json"
PATIENCE = 900.0  # seconds for which the store need not answer
BOOT = 60.0  # seconds until metadata and tags must be there
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # a disk's, never a connection's
SCARCE = 1 << 26  # bytes
direct = urllib.request.build_opener(urllib.request.ProxyHandler({})).open


class Absent(Exception):
    pass


class Refused(Exception):
    pass


def imds(path):
    """Metadata, version 2 (UserGuide/instancedata-data-retrieval.html); None where there is none."""
    until = time.monotonic() + BOOT
    while True:
        try:
            ttl = {"X-aws-ec2-metadata-token-ttl-seconds": "300"}
            asked = urllib.request.Request(IMDS + "/latest/api/token", headers=ttl, method="PUT")
            token = {"X-aws-ec2-metadata-token": direct(asked, timeout=2).read().decode()}
            asked = urllib.request.Request(IMDS + "/latest/" + path, headers=token)
            return direct(asked, timeout=2).read().decode()
        except OSError as error:
            if getattr(error, "code", 0) == 404 and not path.startswith("meta-data/tags"):
                return None
            if time.monotonic() > until:
                raise SystemExit("bootstrap: no metadata at %s (%s)" % (path, error))
            time.sleep(0.5)


def tag(name, shape):
    value = imds("meta-data/tags/instance/" + name)
    if not re.fullmatch(shape, value):
        raise SystemExit("bootstrap: the tag %s is %r" % (name, value))
    return value


def place():
    uri = tag("spot-backtest:launch", r"s3://[a-z0-9.-]+/.+\.json")
    bucket, _, key = uri[5:].partition("/")
    return bucket, key


def credentials():
    role = imds("meta-data/iam/security-credentials/")
    if not role:
        raise SystemExit("bootstrap: the instance has no role")
    return json.loads(imds("meta-data/iam/security-credentials/" + role.split()[0]))


def sign(key, text):
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


def signed(method, url, headers, digest, region, keys, now):
    """Headers with a signature version 4 (IAM/UserGuide/reference_sigv-create-signed-request.html)."""
    parts = urllib.parse.urlsplit(url)
    day, stamp = now.strftime("%Y%m%d"), now.strftime("%Y%m%dT%H%M%SZ")
    headers = dict(headers, host=parts.netloc)
    headers.update({"x-amz-date": stamp, "x-amz-content-sha256": digest})
    if keys.get("Token"):
        headers["x-amz-security-token"] = keys["Token"]
    names = ";".join(sorted(headers))
    lines = "".join("%s:%s\n" % (n, headers[n]) for n in sorted(headers))
    request = "\n".join([method, parts.path, "", lines, names, digest])
    scope = "/".join([day, region, "s3", "aws4_request"])
    hashed = hashlib.sha256(request.encode()).hexdigest()
    key = sign(("AWS4" + keys["SecretAccessKey"]).encode(), day)
    for part in (region, "s3", "aws4_request"):
        key = sign(key, part)
    signature = sign(key, "\n".join(["AWS4-HMAC-SHA256", stamp, scope, hashed])).hex()
    headers["authorization"] = "AWS4-HMAC-SHA256 Credential=%s/%s, SignedHeaders=%s, Signature=%s" % (
        keys["AccessKeyId"], scope, names, signature)
    del headers["host"]
    return headers


def store(method, key, file, **headers):
    """One object: GET into a file, or PUT from it, by path or in memory; returns its ETag. Path-style."""
    bucket = place()[0]
    endpoint = tag("spot-backtest:endpoint", r"https?://[A-Za-z0-9.:\[\]-]+")
    region = tag("spot-backtest:region", r"[a-z0-9-]+")
    url = "%s/%s/%s" % (endpoint, bucket, urllib.parse.quote(key, safe="/-._~"))
    until, pause = time.monotonic() + PATIENCE, 0.5
    while True:
        try:
            return once(method, url, file, headers, region)
        except urllib.error.HTTPError as error:
            if error.code == 404:
                raise Absent("the store has no %s" % key)
            if error.code in (400, 401, 403, 412):
                raise Refused("%s %s: %s %s" % (method, key, error.code, error.read(500)))
            why = error
        except OSError as error:
            if error.errno in FULL:
                raise SystemExit("bootstrap: there is no room for %s (%s)" % (file, error))
            why = error
        if time.monotonic() + pause > until:
            raise SystemExit("bootstrap: the store does not answer (%s)" % why)
        time.sleep(pause)
        pause = min(2 * pause, 15.0)


def opened(file, mode):
    return open(file, mode) if isinstance(file, str) else contextlib.nullcontext(file)


def once(method, url, file, headers, region):
    with opened(file, "rb" if method == "PUT" else "wb") as stream:
        stream.seek(0)
        return sent(method, url, stream, headers, region)


def sent(method, url, stream, headers, region):
    digest, body = hashlib.sha256(), None
    if method == "PUT":
        for piece in iter(lambda: stream.read(1 << 20), b""):
            digest.update(piece)
        size, kind = str(stream.tell()), "application/octet-stream"
        headers = dict(headers, **{"content-length": size, "content-type": kind})
        stream.seek(0)
        body = stream
    now = dt.datetime.now(dt.timezone.utc)
    headers = signed(method, url, headers, digest.hexdigest(), region, credentials(), now)
    asked = urllib.request.Request(url, data=body, headers=headers, method=method)
    with urllib.request.urlopen(asked, timeout=60) as answer:
        if method == "GET":
            left = int(answer.headers["Content-Length"])
            for piece in iter(lambda: answer.read(1 << 20), b""):
                left -= stream.write(piece)
            stream.truncate()
            if left:
                raise OSError("%d bytes did not come" % left)
        return answer.headers["ETag"]


def beside(name):
    """The key of an object of the store: the record's key tells where the store begins."""
    return place()[1].partition("backtest/")[0] + name


def do_seconds():
    left = int(tag("spot-backtest:seconds", r"[0-9]{1,7}"))
    text = tag("spot-backtest:deadline", r"[0-9TZ:+.-]{19,40}").replace("Z", "+00:00")
    until = dt.datetime.fromisoformat(text) - dt.datetime.now(dt.timezone.utc)
    until = int(until.total_seconds())
    # A wall clock that disagrees with the launcher's must neither end the instance nor keep it.
    print(until if 0 < until < left else left)


def do_record():
    store("GET", place()[1], RECORD)
    record = load()
    if record["state"] != "open":
        raise SystemExit("bootstrap: the launch is over already: %a" % record.get("outcome"))


def load():
    with open(RECORD, "rb") as stream:
        return parsed(stream.read())


def parsed(body, whole=True):
    try:
        found = json.loads(body.decode())
        code = found["bundle"] if whole else {}
        more = [found["entry"], code["key"], code["sha256"], *found["locks"]] if whole else []
        "".join([found["state"], *more])
        return found
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise SystemExit("bootstrap: s3://%s/%s cannot be read (%r)" % (*place(), error))


def inside(path):
    if path.startswith("/") or ".." in path.split("/"):
        raise SystemExit("bootstrap: %r is not inside of the bundle" % path)
    return path


def do_code():
    bundle, file, folder = load()["bundle"], HOME + "/bundle", HOME + "/code"
    store("GET", beside(bundle["key"]), file)
    with open(file, "rb") as stream:
        found = hashlib.sha256(stream.read()).hexdigest()
    if found != bundle["sha256"]:
        raise SystemExit("bootstrap: the bundle has the hash %s, not %s" % (found, bundle["sha256"]))
    with tarfile.open(file) as archive:
        extra = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
        archive.extractall(folder, **extra)
    print("%s/%s" % (folder, inside(load()["entry"])))


def do_locks():
    print("\n".join(inside(lock) for lock in load()["locks"]))


def do_name(entry, *locks):
    """An environment is of its Python, machine, place and locks: a venv holds absolute paths."""
    about = [platform.python_version(), platform.machine(), *platform.libc_ver(), entry]
    for lock in locks:
        with open(os.path.join(entry, lock), encoding="utf-8") as stream:
            about.append(stream.read())
    digest = hashlib.sha256(json.dumps(about).encode()).hexdigest()
    print("_environments/%s-%s-%s.tar.gz" % (*about[:2], digest[:16]))


def do_get(name, path):
    store("GET", beside(name), path)


def do_put(name, path):
    store("PUT", beside(name), path, **{"if-none-match": "*"})


def do_endpoint():
    print(load().get("endpoint") or "")


def do_tag(name):
    print(tag(name, r"[a-z0-9-]+"))


def do_fail(why):
    """Leave the log in the store and close the record, unless somebody has."""
    key, prefix = place()[1], beside("")
    date = re.search(r"backtest/(\.dry-run/)?([0-9-]{10})/", key)
    dry, day = (date.group(1) or "", date.group(2)) if date else ("", "unknown")
    log = "_ssm_logs/%sspot/%s/%s-bootstrap.log" % (dry, day, imds("meta-data/instance-id"))
    free = shutil.disk_usage(HOME).free
    if free < SCARCE:
        why += "; %d bytes are free in %s" % (free, HOME)
    shipped = False
    while True:  # in memory: the disk may be what is wrong
        found = io.BytesIO()
        etag = store("GET", key, found)
        if not shipped:
            store("PUT", prefix + log, LOG)
            shipped = True
        record = parsed(found.getvalue(), whole=False)
        if record["state"] != "open":
            return
        now = dt.datetime.now(dt.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        record.update(state="closed", outcome="failed", code=69, closed=now, error=why, log=log)
        try:
            store("PUT", key, io.BytesIO(json.dumps(record, indent=1).encode()), **{"if-match": etag})
            return
        except Refused as error:
            if ": 412 " not in str(error):
                raise


try:
    globals()["do_" + sys.argv[1]](*sys.argv[2:])
except (Absent, Refused, OSError) as error:
    raise SystemExit("bootstrap: %s" % error)
PYTHON
}

main
