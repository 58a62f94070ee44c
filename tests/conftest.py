"""What every test gets: a clean environment, an S3 endpoint on 127.0.0.1, a store of each kind."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from shim.store import Store, open_store
from tests import launches
from tests.lab import S3Lab, fake_credentials, s3_lab, unset
from tests.lab.aws import AwsLab, aws_lab
from tests.lab.stepfunctions import Engine, engine
from tests.repositories import copy_of_the_tool
from tests.stages import Table

# Under nohup SIGHUP is ignored, in the background of a script SIGINT and SIGQUIT are, also by all
# that the tests start (nohup(1), «Signals» in bash(1), execve(2)).
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGQUIT, signal.SIG_DFL)
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print how many seeded bugs of the crash sweep were caught, where they were run."""
    ran = {
        outcome: sum("::test_a_seeded_bug_is_caught[" in r.nodeid for r in reports)
        for outcome in ("passed", "failed", "error")
        if (reports := terminalreporter.stats.get(outcome))
    }
    if total := sum(ran.values()):
        terminalreporter.write_line(f"seeded bugs caught: {ran.get('passed', 0)} of {total}")


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[S3Lab]:
    """An S3 endpoint for all tests of one worker."""
    with s3_lab() as lab:
        yield lab


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable of AWS or of ours, no configuration file, made-up credentials, nowhere to go."""
    for name in os.environ.keys() - unset(os.environ).keys():
        monkeypatch.delenv(name)
    for name, value in fake_credentials("http://127.0.0.1:9").items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def s3(s3_endpoint: S3Lab, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Lab]:
    """The endpoint as what AWS_ENDPOINT_URL names, without faults before and after."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_endpoint.url)
    yield s3_endpoint
    s3_endpoint.heal()


@pytest.fixture
def s3_uri(s3: S3Lab) -> str:
    """The address of an empty store in S3, in a bucket of its own."""
    bucket = f"test-{uuid.uuid4().hex[:12]}"
    s3.make_bucket(bucket)
    return f"s3://{bucket}/some prefix"


@pytest.fixture
def remote(s3_uri: str) -> Store:
    """An empty store in S3 that has answered once."""
    store = open_store(s3_uri)
    store.now()
    return store


@pytest.fixture(params=["directory", "s3"])
def store_uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty store of each kind."""
    if request.param == "directory":
        return str(tmp_path / "a store")
    uri: str = request.getfixturevalue("s3_uri")
    return uri


@pytest.fixture
def store(store_uri: str) -> Store:
    """An empty store of each kind."""
    return open_store(store_uri)


@pytest.fixture
def table(tmp_path: Path, store: Store) -> Table:
    """A table of three stages, and an empty store of each kind."""
    made = Table(tmp_path, store)
    made.three()
    return made


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """An engine that executes state machines, for all tests of one worker."""
    with engine(tmp_path_factory.mktemp("engine")) as found:
        yield found


@pytest.fixture
def aws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[AwsLab]:
    """An AWS of its own: S3, EC2 whose instances are processes, and what was called."""
    with aws_lab(tmp_path / "aws") as found:
        for name, value in found.env.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "the tests")
        yield found
        launches.end_all()


@pytest.fixture(scope="session")
def tool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A committed copy of the tool, for all tests of one worker."""
    return copy_of_the_tool(tmp_path_factory.mktemp("tool") / "spot-backtest")
