"""User data on a lab instance: the deadline first, and every failure readable and ended."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from shim.launch import Record
from shim.spot_preflight import BOOTSTRAP
from tests.children import until
from tests.entry import Done
from tests.lab.aws import AwsLab, Call
from tests.launches import Spot, fill_disk
from tests.stages import DATE

TEXT = BOOTSTRAP.read_text()
HELPER = re.search(r"<<'PYTHON'\n(.*?)\ntry:\n", TEXT, re.DOTALL)


@pytest.fixture
def spot(aws: AwsLab, tool: Path, tmp_path: Path) -> Spot:
    """One stage."""
    made = Spot(aws, tool, tmp_path / "spot")
    made.table.stage("a")
    return made


@pytest.fixture
def helper(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The functions of the helper in it."""
    monkeypatch.setenv("SPOT_HOME", "/nonexistent")
    monkeypatch.setenv("SPOT_LOG", "/nonexistent/log")
    assert HELPER is not None
    names: dict[str, Any] = {}
    exec(compile(HELPER[1], "helper", "exec"), names)  # noqa: S102  our own text
    return names


def on_record(spot: Spot, act: Callable[[Record], None]) -> None:
    """Do something as soon as the launch record is there."""

    def done(call: Call) -> None:
        key = str(call.params["Key"]).removeprefix("some prefix/")
        act(Record(spot.store, key))

    spot.aws.fault("s3", "PutObject", match="/_launches/", done=done)


def failed(spot: Spot, why: str) -> Done:
    """Run, and check that the instance told why it could not, and ended itself."""
    done = spot.run()
    assert done.code == 69, done.err + spot.console()
    (record,) = spot.records()
    assert (record["state"], record["outcome"], record["code"]) == ("closed", "failed", 69)
    assert why in record["error"]
    assert why in done.err
    (instance,) = spot.aws.instances.values()
    assert record["log"] == f"_ssm_logs/spot/{DATE}/{instance.id}-bootstrap.log"
    assert until(lambda: spot.aws.alive() == [])
    return done


def test_the_deadline_is_armed_before_anything_else(spot: Spot) -> None:
    """I06: first for the boot, then for the launch; the first of them is put out."""
    done = spot.run()
    assert done.code == 0, done.err
    (instance,) = spot.aws.instances.values()
    calls = instance.machine.calls()
    assert calls[0][0] == "systemd-run"
    assert "--on-active=1800s" in calls[0]
    assert calls[1][0] == "busctl", "a unit of its own, which a shutdown ends in time"
    seconds = next(word for word in calls[2] if word.startswith("--on-active="))
    assert 1700 < int(re.sub(r"\D", "", seconds)) <= 1860
    assert calls[3] == ["systemctl", "stop", "spot-backtest-first.timer"]
    armed = spot.console().index("ends in")
    assert armed < spot.console().index("attempt ")
    assert [call.service for call in spot.aws.calls if call.caller == instance.id]


def test_an_instance_that_hangs_is_ended_by_its_deadline(spot: Spot) -> None:
    """I06: with nobody else to end it; where it hung is said, and it is not tried again."""
    spot.aws.change("readonly FIRST=1800", "readonly FIRST=1; sleep() { command sleep 1000; }")
    reads = "  step='reading the instance tags'\n"
    spot.aws.change(reads, f"{reads}  sleep\n")
    done = spot.run()
    assert done.code == 69, done.err
    assert "reading the instance tags failed on the instance" in done.err
    assert len(spot.aws.instances) == 1


def test_a_bundle_that_was_changed_is_not_run(spot: Spot) -> None:
    """Its hash stands in the record; the log of the failure is in the store, and told here."""

    def act(record: Record) -> None:
        spot.store.put(record.load()["bundle"]["key"], b"something else")

    on_record(spot, act)
    done = failed(spot, "restoring the code")
    assert "the bundle has the hash" in done.out


def test_a_launch_that_is_over_is_not_begun(spot: Spot) -> None:
    """I06: a zombie that boots late reads that its record is closed, and shuts down."""

    def act(record: Record) -> None:
        record.close("lost", None, error="by the test")

    on_record(spot, act)
    done = spot.run()
    assert done.code == 69
    assert spot.table.receipts("a") == []
    assert until(lambda: spot.aws.alive() == [])


def test_a_python_that_lacks_the_packages_is_said(spot: Spot, tmp_path: Path) -> None:
    """At minute one, in the store and here."""
    spot.aws.instance_env["SPOT_BACKTEST_PYTHON"] = str(tmp_path / "none")
    done = failed(spot, "restoring the Python environment")
    assert "there is no such program" in done.out


@pytest.mark.slow
def test_a_store_that_is_away_for_a_while_is_waited_for(spot: Spot) -> None:
    """Errors and closed connections, at each of the objects that a boot needs."""
    for match in ("_bundles", "_launches"):
        for what in ("SlowDown", "drop-before"):
            spot.aws.fault("s3", "GetObject", what, match=match)
    done = spot.run()
    assert done.code == 0, done.err + spot.console()


def test_a_full_disk_is_not_taken_for_a_store_that_is_away(spot: Spot) -> None:
    """It fails at once, and neither the record nor the end of the instance needs the disk."""

    def fill(call: Call) -> None:
        for made in spot.aws.instances.values():
            fill_disk(made.machine.pids())

    spot.aws.change("set -uo pipefail\n", "set -uo pipefail\ntrap '' XFSZ\n")
    spot.aws.fault("s3", "GetObject", match="_bundles", before=fill)
    failed(spot, "restoring the code")


def test_a_disk_that_is_nearly_full_is_named(
    helper: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log cannot say it any more; the record can."""
    written: list[dict[str, Any]] = []

    def store(method: str, key: str, file: Any, **headers: str) -> str:
        if method == "GET":
            file.write(b'{"state": "open"}')
        elif key == "backtest/2026-05-17/x":
            written.append(json.load(file))
        return "etag"

    helper |= {"store": store, "place": lambda: ("b", "backtest/2026-05-17/x"), "HOME": "/"}
    helper["imds"] = lambda _: "i-1"
    for free, said in ((1 << 40, "why"), (4096, "why; 4096 bytes are free in /")):
        usage = SimpleNamespace(free=free)
        monkeypatch.setattr(shutil, "disk_usage", lambda _, usage=usage: usage)
        helper["do_fail"]("why")
        assert written.pop()["error"] == said


def test_no_secret_is_in_the_log(spot: Spot) -> None:
    """The role's credentials are used, never printed."""
    done = spot.run()
    (instance,) = spot.aws.instances
    assert done.code == 0
    assert spot.aws.role_key(instance) not in spot.console()
    assert "X-Amz-Security-Token" not in spot.console()


def test_an_instance_without_its_tags_ends_at_once(spot: Spot) -> None:
    """I36, I38: what the tags should say is not guessed, and text in them is text."""
    spot.aws.change("BOOT = 60.0", "BOOT = 0.5")
    spot.aws.fault("ec2", "CreateFleet", after=1, before=lambda call: hostile(call, spot))
    done = spot.run()
    assert done.code == 69, done.err
    assert not (spot.folder / "owned").exists()
    assert until(lambda: spot.aws.alive() == [])
    assert "the tag spot-backtest:launch is" in spot.console()


def hostile(call: Call, spot: Spot) -> None:
    """Let the instance's tag hold a command instead of an address."""
    made = spot.aws.ec2.tagged
    made["spot-backtest:launch"] = f"s3://x/$(touch {spot.folder}/owned)`touch {spot.folder}/owned`"


@pytest.mark.parametrize("key", ["a/b c/é+&=?.json", "plain", "~x/'(y)!*"])
def test_a_request_is_signed_as_botocore_signs_it(helper: dict[str, Any], key: str) -> None:
    """Signature version 4, for a key with anything in it."""
    now = datetime(2026, 5, 17, 23, 59, 58, tzinfo=UTC)
    keys = {"AccessKeyId": "AKID", "SecretAccessKey": "secret", "Token": "token"}
    quoted = helper["urllib"].parse.quote(key, safe="/-._~")
    url = f"http://127.0.0.1:9000/bucket/{quoted}"
    digest = hashlib.sha256(b"body").hexdigest()
    mine = helper["signed"]("PUT", url, {"if-none-match": "*"}, digest, "eu-west-1", keys, now)

    request = AWSRequest("PUT", url, {"if-none-match": "*"}, b"body")
    request.context["timestamp"] = now.strftime("%Y%m%dT%H%M%SZ")
    request.headers["X-Amz-Content-SHA256"] = digest
    request.headers["X-Amz-Date"] = request.context["timestamp"]
    request.headers["X-Amz-Security-Token"] = "token"
    auth = S3SigV4Auth(Credentials("AKID", "secret", "token"), "s3", "eu-west-1")
    canonical = auth.canonical_request(request)
    scope = auth.string_to_sign(request, canonical)
    assert mine["authorization"].endswith(f"Signature={auth.signature(scope, request)}")


def test_the_helper_refuses_paths_that_leave_the_bundle(helper: dict[str, Any]) -> None:
    """The record is data, and may hold anything."""
    assert helper["inside"]("work/deep") == "work/deep"
    for path in ("/etc", "../x", "a/../../b"):
        with pytest.raises(SystemExit):
            helper["inside"](path)


def test_an_environment_is_named_by_all_that_it_depends_on(
    helper: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Python, machine, place and locks: a virtual environment holds absolute paths."""
    for name, text in (("one", "a==1"), ("two", "a==2")):
        (tmp_path / name).write_text(text)
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "one").write_text("a==1")
    for folder, locks in ((tmp_path, ["one"]), (tmp_path, ["two"]), (tmp_path, ["one", "two"]),
                          (tmp_path / "there", ["one"]), (tmp_path, ["one"])):  # fmt: skip
        helper["do_name"](str(folder), *locks)
    names = capsys.readouterr().out.split()
    assert names[0] == names[4]
    assert len(set(names)) == 4
    assert all(
        re.fullmatch(r"_environments/3\.\d+\.\d+-\w+-[0-9a-f]{16}\.tar\.gz", n) for n in names
    )


@pytest.mark.slow
def test_the_second_instance_restores_what_the_first_has_made(spot: Spot) -> None:
    """It installs nothing: its pip cannot even reach an index."""
    spot.aws.place = "instance"
    del spot.aws.instance_env["SPOT_BACKTEST_PYTHON"]
    spot.aws.instance_env["PATH"] = os.environ["PATH"]
    for name in ("PIP_CERT", "SSL_CERT_FILE", "PIP_INDEX_URL", "UV_INDEX_URL", "PIP_FIND_LINKS"):
        if name in os.environ:
            spot.aws.instance_env[name] = os.environ[name]
    done = spot.end(spot.start(), timeout=300)
    assert done.code == 0, done.err + spot.console()
    (stored,) = [o.key for o in spot.store.list("_environments/")]
    assert f"archived {stored}" in spot.console()
    spot.aws.instance_env |= {"PIP_INDEX_URL": "http://127.0.0.1:9", "UV_OFFLINE": "1"}
    done = spot.run("--date", "2026-05-18")
    assert done.code == 0, done.err + spot.console()
    assert len(spot.aws.instances) == 2
    assert f"restored {stored}" in spot.console()


def test_a_launch_record_that_cannot_be_read_is_named(helper: dict[str, Any]) -> None:
    """I55: by its address on one line; the reference to the bundle is part of it."""
    helper["place"] = lambda: ("bucket", "prefix/l-1.json")
    code = {"key": "_bundles/x.tar.gz", "sha256": "0" * 64}
    good = {"state": "open", "entry": "work", "locks": ["run.txt"], "bundle": code, "newer": 1}
    assert helper["parsed"](json.dumps(good).encode()) == good
    bundles: tuple[Any, ...] = (None, [], "x", {**code, "key": 5}, {"key": "x"})
    odd = [{**good, "bundle": b} for b in bundles] + [{**good, "locks": 5}, {**good, "state": None}]
    bodies = [b"", b"[]", b"null", b"\xff", b"[" * 10**5, *(json.dumps(o).encode() for o in odd)]
    for body in bodies:
        with pytest.raises(SystemExit, match=r"^bootstrap: s3://bucket/prefix/l-1\.json cannot be"):
            helper["parsed"](body)
