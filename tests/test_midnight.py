"""One execution, one date: whatever the clock, the zone, the source and the number of calls."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from shim import rundate
from shim.errors import ShimError
from tests.entry import spot_backtest
from tests.lab.clock import Clock

MIDNIGHT = datetime(2026, 5, 18, tzinfo=UTC)
ZONES = ("UTC", "America/New_York", "Asia/Tokyo", "Pacific/Kiritimati")
NIGHTS = {  # a midnight in UTC close to a change of local clocks, by zone
    "UTC": MIDNIGHT,
    "America/New_York": datetime(2026, 3, 8, tzinfo=UTC),
    "Europe/Berlin": datetime(2026, 10, 25, tzinfo=UTC),
    "Australia/Lord_Howe": datetime(2026, 4, 5, tzinfo=UTC),
}
OFFSETS = (-7200, -1, 0, 7200)  # seconds from midnight at the start
SOURCES = ("--date", "RUN_DATE", "clock")
GIVEN = "2026-05-09"
STAGES = ("first", "second", "third")

# Each stage records the date it was given, then time passes: 150 minutes, as in a real backtest.
TABLE = """
[[stage]]
name = "{name}"
command = ["{{python}}", "{script}", "{name}", "{own_clock}"]
needs = {needs}
produces = ["{name}.txt"]
timeout = 60
"""
SCRIPT = """
import os, sys
from datetime import datetime, timedelta
from pathlib import Path
import shim.clock

name, own_clock = sys.argv[1:]
date = os.environ["RUN_DATE"]
Path(os.environ["ARTIFACTS_DIR"], name + ".txt").write_text(date)
if own_clock == name:  # the mistake that this project exists to end
    own = shim.clock.utc_now().date().isoformat()
    there = Path(os.environ["ARTIFACTS_URI"]).parent / own / "stray.txt"
    there.parent.mkdir(exist_ok=True)
    there.write_text(own)
clock = Path(os.environ["CLOCK"])
clock.write_text((datetime.fromisoformat(clock.read_text()) + timedelta(minutes=150)).isoformat())
"""


def table(folder: Path, own_clock: str = "nobody") -> Path:
    """Write a table of three stages, one of which may ask its own clock."""
    script = folder / "stage.py"
    script.write_text(SCRIPT)
    rows = [
        TABLE.format(
            name=name, script=script, own_clock=own_clock, needs=json.dumps(STAGES[:number])
        )
        for number, name in enumerate(STAGES)
    ]
    path = folder / "pipeline.toml"
    path.write_text("".join(rows))
    return path


def dates_in(store: Path) -> set[str]:
    """Return every run date that a folder, a record, an artifact or a log of a store names."""
    found = set()
    for file in store.rglob("*"):
        if file.is_dir() or file.name.startswith(".shim-"):
            continue
        where = file.relative_to(store).parts
        found.add(where[1] if where[0] == "backtest" else where[2])
        if file.suffix == ".json":
            found.add(json.loads(file.read_text())["run_date"])
        elif file.suffix == ".txt":
            found.add(file.read_text())
    return found


def run(folder: Path, start: datetime, zone: str, source: str, calls: int, own: str = "") -> Path:
    """Run the three stages, in one call or in three that carry RUN_DATE; return the store."""
    clock = Clock(folder / "clock", start)
    store = folder / "store"
    options: list[str | Path] = [
        "--pipeline",
        table(folder, own or "nobody"),
        "--store",
        store,
        "--quiet",
    ]
    env = {**clock.env, "CLOCK": str(clock.file), "TZ": zone}
    first = options.copy()
    if source == "--date":
        first += ["--date", GIVEN]
    elif source == "RUN_DATE":
        env["RUN_DATE"] = GIVEN
    if calls == 1:
        done = spot_backtest(*first, env=env)
        assert (done.code, done.err) == (0, "")
        return store
    plan = spot_backtest("plan", "--json", *first, env=env)
    env["RUN_DATE"] = json.loads(plan.out)["run_date"]
    for name in STAGES:
        done = spot_backtest(*options, f"--only-stages={name}", env=env)
        assert (done.code, done.err) == (0, "")
    return store


def expected(start: datetime, source: str) -> str:
    """Return the one date that a run has."""
    return start.date().isoformat() if source == "clock" else GIVEN


@pytest.mark.parametrize("calls", [1, 3])
@pytest.mark.parametrize("source", SOURCES)
def test_a_run_that_crosses_midnight_has_one_date(tmp_path: Path, source: str, calls: int) -> None:
    """I01: the clock passes midnight inside the first stage; everything lies under one date."""
    start = MIDNIGHT - timedelta(seconds=1)
    store = run(tmp_path, start, "America/New_York", source, calls)
    assert dates_in(store) == {expected(start, source)}
    assert len(list(store.glob("backtest/*/*.txt"))) == 3


def test_a_stage_that_asks_its_own_clock_is_caught(tmp_path: Path) -> None:
    """The check can fail: a stage that names a folder by its own clock splits the run."""
    store = run(tmp_path, MIDNIGHT - timedelta(seconds=1), "UTC", "clock", 1, own="second")
    assert dates_in(store) == {"2026-05-17", "2026-05-18"}


def sweep() -> Iterable[tuple[datetime, str, str, int]]:
    """Return every start, zone, source and number of calls."""
    nights = {(zone, MIDNIGHT) for zone in ZONES} | set(NIGHTS.items())
    for (zone, night), offset, source, calls in itertools.product(
        sorted(nights), OFFSETS, SOURCES, (1, 3)
    ):
        yield night + timedelta(seconds=offset), zone, source, calls


@pytest.mark.slow
@pytest.mark.parametrize("part", range(8))
def test_no_run_of_the_sweep_is_split(tmp_path: Path, part: int) -> None:
    """I01: start around midnight, zone, source and number of calls, every combination."""
    split = []
    for number, (start, zone, source, calls) in enumerate(sweep()):
        if number % 8 != part:
            continue
        folder = tmp_path / str(number)
        store = run(folder, start, zone, source, calls)
        if dates_in(store) != {expected(start, source)}:
            split.append((start, zone, source, calls, dates_in(store)))
        shutil.rmtree(folder)
    assert split == []


@pytest.mark.parametrize("zone", [*ZONES, *NIGHTS])
def test_the_zone_of_the_machine_does_not_change_the_date(
    zone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock's date is that of UTC, at every second around every midnight of a week."""
    import time

    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        for offset in range(-3 * 86400, 3 * 86400, 3599):
            moment = NIGHTS.get(zone, MIDNIGHT) + timedelta(seconds=offset)
            local = moment.astimezone()
            assert rundate.resolve(None, None, local).text == moment.date().isoformat()
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize("crossing", ["first", "second"])
def test_a_real_clock_that_passes_midnight_does_not_split_a_run(
    tmp_path: Path, crossing: str
) -> None:
    """I01: under faketime bash, date and Python all see midnight pass; the run has one date."""
    if shutil.which("faketime") is None:
        pytest.skip("faketime is not installed (Debian package faketime)")
    passes = "until [ $(date -u +%F) = 2026-05-18 ]; do sleep 0.1; done; "
    (tmp_path / "pipeline.toml").write_text(
        "".join(
            f"""
[[stage]]
name = "{name}"
command = ["sh", "-c", '{passes if name == crossing else ""}date -u +%F >"$ARTIFACTS_DIR/{name}"']
needs = {json.dumps(needs)}
produces = ["{name}"]
timeout = 60
"""
            for name, needs in (("first", []), ("second", ["first"]))
        )
    )
    store = tmp_path / "store"
    done = spot_backtest(
        "--pipeline", tmp_path / "pipeline.toml", "--store", store,
        env={"TZ": "UTC"}, prefix=("faketime", "2026-05-17 23:59:57"),
    )  # fmt: skip
    assert done.code == 0, done.err
    assert [folder.name for folder in (store / "backtest").iterdir()] == ["2026-05-17"]
    assert {p.parent.name for p in store.glob("_ssm_logs/*/*/*")} == {"2026-05-17"}
    own = (store / "backtest/2026-05-17/second").read_text().strip()
    assert own == "2026-05-18", "midnight did not pass, so this run proves nothing"


def test_a_bad_date_never_reaches_the_clock() -> None:
    """A date that cannot be read is refused, and never replaced by today."""
    with pytest.raises(ShimError):
        rundate.resolve(None, "2026-5-7", MIDNIGHT)
