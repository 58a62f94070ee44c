"""Keys that are rotated or expire while a store is in use are read again from where they come."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3.session
import pytest

from shim.errors import AccessError
from shim.store import Store, open_store
from tests.children import read, until
from tests.lab import S3Lab
from tests.lab.files import MIB, file, sha256
from tests.stages import WAIT_FOR_GO, Table


class Keys:
    """A real credentials file with one key, which a test changes."""

    def __init__(self, path: Path, lab: S3Lab) -> None:
        self.path, self._lab = path, lab
        self.number = 0
        self.write()

    @property
    def id(self) -> str:
        """The access key id that is in the file, and in no other test's."""
        return f"AKIA{abs(hash(self.path)):X}{self.number}"

    def write(self) -> None:
        """Put a new key into the file, as a whole."""
        self.number += 1
        part = self.path.with_suffix(".part")
        part.write_text(
            f"[default]\naws_access_key_id = {self.id}\naws_secret_access_key = s{self.number}\n"
        )
        part.replace(self.path)

    def rotate(self, status: str = "403 InvalidAccessKeyId") -> None:
        """Refuse the key from now on, and have another in the file."""
        self._lab.refuse(self.id, status)
        self.write()


@pytest.fixture
def keys(s3: S3Lab, s3_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Keys:
    """A credentials file that boto3 reads, and nothing else."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    return Keys(tmp_path / "credentials", s3)


def acts(store: Store, tmp_path: Path) -> dict[str, Callable[[], Any]]:
    """Return a call of each kind, on an object that is there."""
    there = store.put("there", b"there")
    long = file(tmp_path / "long", 9 * MIB)
    return {
        "put": lambda: store.put("put", b"x"),
        "parts": lambda: store.put("parts", long),
        "head": lambda: store.head("there"),
        "read": lambda: store.read("there"),
        "digest": lambda: store.digest("there"),
        "list": lambda: list(store.list("")),
        "folders": lambda: store.folders(""),
        "delete": lambda: store.delete("there", there.etag),
        "extend": lambda: store.extend("log", long, 0, 10, None),
        "now": store.now,
    }


@pytest.mark.parametrize(
    ("act", "status"),
    [
        ("put", "403 InvalidAccessKeyId"),
        ("parts", "400 ExpiredToken"),
        ("head", "403"),
        ("head", "400"),
        ("read", "400 InvalidToken"),
        ("digest", "403 SignatureDoesNotMatch"),
        ("list", "403 AccessDenied"),
        ("folders", "400 RequestExpired"),
        ("delete", "403 InvalidAccessKeyId"),
        ("extend", "400 TokenRefreshRequired"),
        ("now", "400 ExpiredToken"),
    ],
)
def test_a_call_whose_key_was_rotated_is_made_with_the_new_one(
    keys: Keys, remote: Store, tmp_path: Path, act: str, status: str
) -> None:
    """I44: whatever is asked and however the old key is refused, a HEAD without a word too."""
    call = acts(remote, tmp_path)[act]

    keys.rotate(status)
    call()
    keys.rotate()  # and again

    assert (remote.head("there") is None) == (act == "delete")


def test_a_long_upload_goes_on_where_its_key_was_rotated(
    keys: Keys, remote: Store, s3: S3Lab, tmp_path: Path
) -> None:
    """I44: no part is sent twice, no upload is left behind, and the bytes are right."""
    source = file(tmp_path / "long", 25 * MIB)
    sent: list[int] = []

    def progress(count: int) -> None:
        sent.append(count)
        if len(sent) in (1, 3):
            keys.rotate("400 ExpiredToken")

    put = remote.put("long", source, None, progress)

    assert put.sha256 == remote.digest("long") == sha256(source.read_bytes())
    assert s3.uploaded(remote.uri_of("long")) == 25 * MIB
    assert s3.unfinished(remote.uri.split("/")[2]) == 0


def test_a_key_that_is_refused_and_not_rotated_is_77_after_one_try(
    keys: Keys, remote: Store, s3: S3Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I44: as before, each time, and it is read again each time; nothing goes round in circles."""
    made: list[boto3.session.Session] = []
    session = boto3.session.Session

    def counted() -> boto3.session.Session:
        made.append(session())
        return made[-1]

    monkeypatch.setattr(boto3.session, "Session", counted)
    s3.refuse(keys.id)

    for count in (1, 2):
        with pytest.raises(AccessError, match="InvalidAccessKeyId"):
            remote.put("a", b"x")
        assert len(made) == count

    keys.write()
    assert remote.put("a", b"x").size == 1


def test_the_new_key_may_be_refused_too(keys: Keys, remote: Store, s3: S3Lab) -> None:
    """I44: 77, after one more request."""
    keys.rotate()
    s3.refuse(keys.id)

    with pytest.raises(AccessError, match="InvalidAccessKeyId"):
        remote.put("a", b"x")


def test_a_file_that_is_gone_or_broken_is_the_refusal_it_was(
    keys: Keys, remote: Store, s3: S3Lab
) -> None:
    """I44: what S3 said is the error; once the file is whole again, it goes on."""
    s3.refuse(keys.id)
    whole = keys.path.read_text()
    for text in ("", "no section\n", "[default]\naws_access_key_id = half\n"):
        keys.path.write_text(text)
        with pytest.raises(AccessError, match="InvalidAccessKeyId"):
            remote.put("a", b"x")
    keys.path.write_text(whole)
    keys.write()

    assert remote.put("a", b"x").size == 1


def test_threads_that_share_a_store_share_its_new_key(keys: Keys, remote: Store, s3: S3Lab) -> None:
    """I44: a heartbeat, a log and a checkpoint do; each of their calls is made, once."""
    with ThreadPoolExecutor(6) as pool:
        for round_ in range(3):
            keys.rotate()
            done = list(pool.map(lambda n: remote.put(f"{round_}/{n}", b"x").key, range(12)))  # noqa: B023
            assert len(done) == 12

    assert len(list(remote.list(""))) == 36


def test_a_key_that_a_program_tells_is_asked_for_again(
    keys: Keys, remote: Store, s3: S3Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I44: credential_process, one that reads a file and does not say when its key expires."""
    told = tmp_path / "told"

    def tell(key: str) -> None:
        told.write_text(f'{{"Version": 1, "AccessKeyId": "{key}", "SecretAccessKey": "s"}}')

    config = tmp_path / "config"
    config.write_text(f"[default]\ncredential_process = cat '{told}'\n")
    keys.path.unlink()
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    tell("AKIAONE" + keys.id)
    store = open_store(remote.uri)
    store.now()
    s3.refuse("AKIAONE" + keys.id)
    tell("AKIATWO" + keys.id)

    assert store.put("a", b"x").size == 1


def test_a_stage_goes_on_after_its_key_was_rotated(keys: Keys, s3_uri: str, tmp_path: Path) -> None:
    """I44: the work is published and committed, its log is shipped, its receipt is closed."""
    table = Table(tmp_path, open_store(s3_uri))
    table.stage("a", f'{WAIT_FOR_GO}; echo a > "$ARTIFACTS_DIR/a.txt"')
    out = tmp_path / "out"
    with out.open("wb") as stream:
        ran = table.start("stage", "a", stdout=stream)
    until(lambda: b"begun" in read(out))
    keys.rotate("400 ExpiredToken")
    (tmp_path / "go").touch()

    assert ran.wait(60) == 0, out.read_text()
    assert table.commit("a") is not None
    assert "begun" in table.log("a")
    assert [receipt["state"] for receipt in table.receipts("a")] == ["closed"]
    assert os.fsencode(keys.id) not in read(out)
