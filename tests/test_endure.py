"""A store that does not answer when the work is done: hours of it are not thrown away."""

from __future__ import annotations

import dataclasses
import signal
from pathlib import Path

import pytest

from shim import commit
from shim.endure import Enduring
from shim.errors import AccessError, PreflightError, ShimError
from shim.store import Store
from tests.lab import S3Lab
from tests.lab.aws import AwsLab
from tests.launches import Spot
from tests.stages import DATE, PREFIX


def away(message: str = "away") -> PreflightError:
    """Return the error of a call that nobody answered."""
    return PreflightError(message, passing=True)


class Fails:
    """A call that fails some times with an error, and is counted."""

    def __init__(self, times: int, error: ShimError) -> None:
        self.left, self.error, self.calls = times, error, 0

    def __call__(self) -> str:
        self.calls += 1
        if self.left:
            self.left -= 1
            raise self.error
        return "answered"


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a person is told; the pauses are short."""
    monkeypatch.setattr("shim.endure.PAUSE", 0.01)
    monkeypatch.setattr("shim.endure.LONGEST", 0.01)
    return []


def enduring(store: Store, said: list[str]) -> Enduring:
    """Return the store, patiently."""
    return Enduring(store, lambda: None, said.append)


def test_what_got_no_answer_is_asked_again_and_told_once(store: Store, said: list[str]) -> None:
    """One line when it begins and one when it is over."""
    call = Fails(5, away("s3: no answer"))

    assert enduring(store, said).again(call) == "answered"

    assert call.calls == 6
    assert said == ["s3: no answer; it is tried again for 15 minutes", "the store answers again"]


@pytest.mark.parametrize("error", [AccessError("no"), PreflightError("the bucket is not there")])
def test_a_refusal_is_passed_on_at_once(store: Store, said: list[str], error: ShimError) -> None:
    """It would be refused again."""
    call = Fails(1, error)
    with pytest.raises(type(error)):
        enduring(store, said).again(call)
    assert (call.calls, said) == (1, [])


def test_patience_has_an_end_and_is_not_begun_again_by_the_next_call(
    store: Store, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What closes the records after it must not wait as long once more."""
    monkeypatch.setattr("shim.endure.PATIENCE", 0.05)
    store = enduring(store, said)
    with pytest.raises(PreflightError, match="away"):
        store.again(Fails(1000, away()))
    after = Fails(1000, away())
    with pytest.raises(PreflightError, match="away"):
        store.again(after)
    assert after.calls == 1


def test_a_commit_whose_answer_was_lost_is_the_attempts_own(
    remote: Store, s3: S3Lab, said: list[str]
) -> None:
    """It meets itself when it is written again; another attempt's is still another's."""
    mine = commit.Commit("a", DATE, "x", "1", "c", "t", {}, {})
    s3.fail("PUT", "_stages/a.json", "drop-after", times=4)
    commit.write(enduring(remote, said), PREFIX, mine, None)
    there = commit.read(remote, PREFIX, "a")
    assert there is not None
    assert (there.attempt, len(said)) == ("1", 2)
    with pytest.raises(ShimError, match="was committed by attempt 1 of x meanwhile"):
        commit.write(remote, PREFIX, dataclasses.replace(mine, attempt="2"), None)


@pytest.mark.slow
def test_a_stage_that_ends_while_the_store_is_away_commits_when_it_is_back(
    aws: AwsLab, tool: Path, tmp_path: Path
) -> None:
    """Here as on an instance; the second stage goes on from it."""
    spot = Spot(aws, tool, tmp_path / "spot")
    begun = tmp_path / "begun"
    spot.table.stage("a", f'touch {begun}; sleep 1; echo a > "$ARTIFACTS_DIR/a.txt"')
    spot.table.stage("b", needs=["a"], requires=["a.txt"])
    launcher = spot.start("--on", "here")
    spot.until(launcher, begun.exists)
    aws.fault("s3", "*", "outage:6")

    done = spot.end(launcher)

    assert done.code == 0, done.err
    assert "tried again for 15 minutes" in done.err
    assert "the store answers again" in done.err
    assert spot.table.commit("b") is not None


def test_a_signal_ends_the_wait_for_a_store(aws: AwsLab, tool: Path, tmp_path: Path) -> None:
    """143 within seconds, and nothing is committed."""
    spot = Spot(aws, tool, tmp_path / "spot")
    begun = tmp_path / "begun"
    spot.table.stage("a", f'touch {begun}; echo a > "$ARTIFACTS_DIR/a.txt"')
    aws.fault("s3", "PutObject", "drop-before", match=f"{PREFIX}a.txt", times=1 << 30)
    launcher = spot.start("--on", "here")

    def failed() -> bool:
        calls = [c for c in aws.calls if c.params.get("Key", "").endswith("/a.txt")]
        return len(calls) > 4  # botocore alone gives up after four

    spot.until(launcher, failed)
    launcher.send_signal(signal.SIGTERM)
    done = spot.end(launcher)

    assert done.code == 143, done.err
    assert spot.table.commit("a") is None
    (receipt,) = spot.table.receipts("a")
    assert receipt["state"] == "closed"
