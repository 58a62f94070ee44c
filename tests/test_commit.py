"""A commit is believed only when every object that it lists is there unchanged."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shim import commit, needs
from shim.errors import BusyError, PreflightError
from shim.store import Store, open_store
from tests.stages import DATE, PREFIX, Table, publish, sha256


def refusal(table: Table, stage: str, need: str, **asked: Any) -> str:
    """Return why a stage may not stand on another one."""
    plan = table.plan(**asked)
    with pytest.raises(PreflightError) as refused:
        needs.of(table.store, plan, plan.stage(stage), need)
    assert refused.value.code == 69
    return str(refused.value)


def test_a_commit_reads_back_as_it_was_written(store: Store) -> None:
    """With each artifact's size and SHA-256, and the digests of what it was built on."""
    below = publish(store, "backtest", "b.txt")
    written = publish(store, "parity", "p/é 1.txt", built_on={"backtest": below.digest})

    found = commit.read(store, PREFIX, "parity")

    assert found == written
    assert (found.artifacts["p/é 1.txt"].size, found.artifacts["p/é 1.txt"].sha256) == (
        4,
        sha256(b"text"),
    )
    assert commit.problems(store, PREFIX, found, DATE) == []


def test_of_two_attempts_that_commit_at_once_one_wins(store: Store) -> None:
    """I31: the other is told with 75 whose commit is there, and nothing is replaced."""
    publish(store, "backtest", "b.txt")
    before = commit.read(store, PREFIX, "backtest")
    assert before
    winner, loser = (dataclasses.replace(before, attempt=name) for name in ("first", "second"))
    commit.write(store, PREFIX, winner, before.etag)

    with pytest.raises(BusyError, match="committed by attempt first of an execution") as lost:
        commit.write(store, PREFIX, loser, before.etag)
    with pytest.raises(BusyError):
        commit.write(store, PREFIX, loser, None)

    assert lost.value.code == 75
    found = commit.read(store, PREFIX, "backtest")
    assert found is not None
    assert found.attempt == "first"


def test_a_changed_object_is_found(table: Table) -> None:
    """I22: of the same length too, by its content."""
    publish(table.store, "backtest", "b.txt")
    table.store.put(f"{PREFIX}b.txt", b"tixt")

    assert "b.txt of backtest was changed" in refusal(table, "parity", "backtest")


def test_an_object_of_another_length_is_found(table: Table) -> None:
    """I22: without reading it."""
    publish(table.store, "backtest", "b.txt")
    table.store.put(f"{PREFIX}b.txt", b"longer")

    assert "b.txt of backtest has 6 bytes, not 4" in refusal(table, "parity", "backtest")


def test_a_missing_object_is_found(table: Table) -> None:
    """Although the commit is there."""
    publish(table.store, "backtest", "b.txt")
    table.store.delete(f"{PREFIX}b.txt")

    assert "b.txt of backtest is gone" in refusal(table, "parity", "backtest")


def test_an_object_that_was_written_again_with_the_same_bytes_is_unchanged(table: Table) -> None:
    """As after a copy of the whole store: what counts is the content."""
    publish(table.store, "backtest", "b.txt")
    table.store.put(f"{PREFIX}b.txt", b"text")

    assert table.commit("backtest")


def test_a_commit_of_another_date_is_none(table: Table) -> None:
    """Somebody copied a folder to another date."""
    publish(table.store, "backtest", "b.txt", date="2026-05-16")
    for name in ("b.txt", "_stages/backtest.json"):
        found = table.store.read(f"backtest/2026-05-16/{name}")
        assert found
        table.store.put(PREFIX + name, found[0])

    assert "carries the run date 2026-05-16" in refusal(table, "parity", "backtest")


def test_a_stage_whose_upstream_was_rebuilt_is_stale(table: Table) -> None:
    """I22: its own files are all there, and were made from others."""
    below = publish(table.store, "backtest", "b.txt")
    publish(table.store, "parity", "p.txt", built_on={"backtest": below.digest})
    assert table.commit("parity")

    publish(table.store, "backtest", "b.txt", body=b"rebuilt")

    assert "parity was built on another backtest" in refusal(table, "evaluator", "parity")


def test_an_upstream_that_was_rebuilt_to_the_same_bytes_changes_nothing(table: Table) -> None:
    """A deterministic stage may be repeated without repeating all that follows."""
    below = publish(table.store, "backtest", "b.txt")
    publish(table.store, "parity", "p.txt", built_on={"backtest": below.digest})

    publish(table.store, "backtest", "b.txt")

    assert table.commit("parity")


def test_without_a_commit_nothing_is_trusted(table: Table) -> None:
    """I37: although the artifact is there; the message offers --trust-existing, as it is."""
    table.store.put(f"{PREFIX}b.txt", b"text")

    said = refusal(table, "parity", "backtest")

    assert "parity needs backtest, and backtest has no commit" in said
    assert "--trust-existing" in said


def test_artifacts_without_a_commit_are_trusted_on_request(table: Table) -> None:
    """And only if what is required is all there."""
    said = refusal(table, "parity", "backtest", trust_existing=True)
    table.store.put(f"{PREFIX}b.txt", b"text")
    plan = table.plan(trust_existing=True)

    assert "missing: b.txt" in said
    assert "--trust-existing" not in said
    assert needs.of(table.store, plan, plan.stage("parity"), "backtest") is None


def test_trust_is_not_for_a_commit_that_does_not_verify(table: Table) -> None:
    """Where the commit says that something was changed, that is known to be wrong."""
    publish(table.store, "backtest", "b.txt")
    table.store.put(f"{PREFIX}b.txt", b"tixt")

    assert "was changed" in refusal(table, "parity", "backtest", trust_existing=True)


def test_trust_needs_something_to_trust(tmp_path: Path, store: Store) -> None:
    """A need without a required file of its own: all that it produces must be there."""
    table = Table(tmp_path, store)
    table.stage("first")
    table.stage("second", needs=["first"])

    assert "missing: first.txt" in refusal(table, "second", "first", trust_existing=True)


def test_a_commit_that_does_not_list_what_is_required_is_not_enough(table: Table) -> None:
    """I22, I37: the file lies there, from whatever earlier table or run."""
    publish(table.store, "backtest", "other.txt")
    table.store.put(f"{PREFIX}b.txt", b"stale")

    assert "does not list b.txt" in refusal(table, "parity", "backtest")


def test_a_stage_stands_on_the_producers_of_what_it_requires(tmp_path: Path, store: Store) -> None:
    """I37: also on one that it needs only through another."""
    table = Table(tmp_path, store)
    table.stage("a")
    table.stage("b", needs=["a"])
    table.stage("c", needs=["b"], requires=["a.txt"])
    plan = table.plan()

    assert needs.stages(plan, plan.stage("c")) == ["b", "a"]
    assert needs.stages(plan, plan.stage("a")) == []


def test_the_newest_date_is_the_newest_with_commits_that_verify(table: Table) -> None:
    """I18: not the newest folder, nor one whose commit has lost its files."""
    plan = table.plan()
    assert needs.newest_complete(table.store, plan, ["backtest"]) is None
    for date in ("2026-05-10", "2026-05-12", "2026-05-14", DATE):
        publish(table.store, "backtest", "b.txt", date=date)
    table.store.delete("backtest/2026-05-14/b.txt")  # no longer verifies
    table.store.put("backtest/2026-05-15/b.txt", b"")  # never committed
    table.store.put("backtest/2026-05-16/_stages/backtest.json", b"{}")  # no commit
    table.store.put("backtest/latest/b.txt", b"")  # no date
    publish(table.store, "parity", "p.txt", date="2026-05-10")

    assert needs.newest_complete(table.store, plan, ["backtest"]) == "2026-05-12"
    assert needs.newest_complete(table.store, plan, ["backtest", "parity"]) == "2026-05-10"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=8,
)
ARTIFACT = {"size": 1, "sha256": "x", "etag": "y"}
WHOLE = {"stage": "backtest", "run_date": DATE, "execution_id": "e", "attempt": "a",
         "code_version": "c", "committed": "t", "artifacts": {"b.txt": ARTIFACT},
         "built_on": {"a": None}}  # fmt: skip


@given(st.sampled_from([*WHOLE, "other"]), json_values)
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_lies_where_a_commit_belongs_is_read_or_refused(
    tmp_path: Path, field: str, value: Any
) -> None:
    """Never a traceback, nor a path outside of the run prefix."""
    store = open_store(str(tmp_path))
    for body in (json.dumps(value), json.dumps({**WHOLE, field: value})):
        store.put(commit.key(PREFIX, "backtest"), body.encode())
        try:
            found = commit.read(store, PREFIX, "backtest")
        except PreflightError as error:
            assert "is not a commit" in str(error)  # noqa: PT017  both outcomes are fine
        else:
            assert found
            assert commit.problems(store, PREFIX, found, DATE) or not found.artifacts


@pytest.mark.parametrize("path", ["../b.txt", "/b.txt", "_stages/parity.json", "a//b"])
def test_a_commit_cannot_list_what_is_not_an_artifact(store: Store, path: str) -> None:
    """A record is data from a store, and its paths are used."""
    body = json.dumps({**WHOLE, "artifacts": {path: ARTIFACT}})
    store.put(commit.key(PREFIX, "backtest"), body.encode())

    with pytest.raises(PreflightError, match="is not a commit"):
        commit.read(store, PREFIX, "backtest")


def test_another_stages_commit_is_not_this_ones(store: Store) -> None:
    """Somebody copied it."""
    body = json.dumps({**WHOLE, "stage": "parity"})
    store.put(commit.key(PREFIX, "backtest"), body.encode())

    with pytest.raises(PreflightError, match="it is of 'parity'"):
        commit.read(store, PREFIX, "backtest")
