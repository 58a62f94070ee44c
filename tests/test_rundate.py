"""A run date comes from one place, is one calendar date in UTC, or is refused in words."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shim.errors import UsageError
from shim.rundate import WEEKDAYS, RunDate, is_run_date, resolve
from tests.calls import TEXT, call, one_line, planned

NOW = datetime(2026, 5, 18, 0, 30, tzinfo=UTC)  # a Monday, half an hour after midnight
ZONES = (
    *("UTC", "America/New_York", "America/St_Johns", "Europe/London", "Asia/Tokyo"),
    *("Asia/Kathmandu", "Pacific/Kiritimati", "Pacific/Pago_Pago", "Australia/Lord_Howe"),
)
NIGHTS = (  # just before midnight UTC: plain, a leap day, a year's end, nights when clocks change
    *("2026-05-17", "2028-02-28", "2026-12-31", "2026-03-07", "2026-03-08", "2026-10-31"),
    *("2026-11-01", "2026-03-28", "2026-10-24", "2026-04-04", "2026-10-03"),
)
DATE_LIKE = st.from_regex(
    r"[0-9]{3,5}-[0-9]{1,2}-[0-9]{1,2}([Tt ][0-9:.,]{0,15}([Zz]|[+-][0-9:]{0,6})?)?\n?",
    fullmatch=True,
)
REFUSED = (
    *("2026-5-7", "2026-02-30", "2026-13-01", "0000-01-01", "2026-00-10", "26-05-17", "20260517"),
    *("2026/05/17", "17-05-2026", "2026-05-17 ", " 2026-05-17", "2026-05-17\n", "2026-W20-7"),
    *("2026-137", "+2026-05-17", "-2026-05-17", "12026-05-17", "2026-05", "$.run_date", "../x"),
    *("2026-05-17'; rm -rf ~", "$(date)", "`date`", "2026-05-17/../..", "backtest/2026-05-17"),
    *("{run_date}", "202\uff16-05-17", "2026\u201005-17", "\u0662026-05-17", "NaN"),
    *("2026-05-17T23:30:00", "2026-05-17T23:30Z", "2026-05-17 23:30:00Z", "2026-05-17T24:00:00Z"),
    *(
        "2026-05-17T23:60:00Z",
        "2026-05-17T10:00:60Z",
        "2026-05-17T10:00:61Z",
        "2026-02-30T00:00:00Z",
    ),
    *("2026-05-17T10:00:00+24:00", "2026-05-17T10:00:00+05:99", "2026-05-17T10:00:00+0530"),
    *(
        "2026-05-17T10:00:00.Z",
        "2026-05-17T10:00:00,5Z",
        "0001-01-01T00:00:00+05:00",
        "@1779062400",
    ),
    *("9999-12-31T23:59:59-05:00", "2026-05-17T10:00:00Z[UTC]", "2026-05-17T10:00:00 Z"),
)
WORDS = ("today", "yesterday", "last-friday", "3-days-ago", "1-day-ago")


def test_the_flag_wins_over_the_variable_and_the_variable_over_the_clock() -> None:
    """I01: the date has one source, and is stamped once from it."""
    assert resolve("2026-01-02", "2026-03-04", NOW) == RunDate("2026-01-02", "--date")
    assert resolve(None, "2026-03-04", NOW) == RunDate("2026-03-04", "RUN_DATE")
    assert resolve(None, None, NOW) == RunDate("2026-05-18", "clock")


def test_an_empty_variable_is_as_good_as_none() -> None:
    """A state machine without a date passes an empty RUN_DATE."""
    assert resolve(None, "", NOW).source == "clock"
    assert planned(env={"RUN_DATE": ""})["run_date_source"] == "clock"


def test_an_empty_flag_is_refused() -> None:
    """`--date "$UNSET"` is a mistake, not a wish for today."""
    assert "'' is not a run date (set by --date)" in one_line(call("plan", "--date="), 2)


def test_a_wrong_variable_is_no_matter_where_the_flag_wins() -> None:
    """Only the source that won is read."""
    assert planned("--date=2026-05-17", env={"RUN_DATE": "x"})["run_date"] == "2026-05-17"


@pytest.mark.parametrize(
    ("text", "day"),
    [
        ("2026-05-17", "2026-05-17"),
        ("0001-01-01", "0001-01-01"),
        ("9999-12-31", "9999-12-31"),
        ("2028-02-29", "2028-02-29"),
        ("2026-05-17T23:30:00Z", "2026-05-17"),
        ("2026-05-17t23:30:00z", "2026-05-17"),
        ("2026-05-17T23:30:00.123456789Z", "2026-05-17"),
        ("2026-05-17T23:30:00-05:00", "2026-05-18"),
        ("2026-05-18T08:30:00+09:00", "2026-05-17"),
        ("2026-05-17T23:59:59.9-00:00", "2026-05-17"),
        ("2016-12-31T23:59:60Z", "2016-12-31"),
        ("2017-01-01T05:29:60+05:30", "2016-12-31"),
    ],
)
@pytest.mark.parametrize("by", ["--date", "RUN_DATE"])
def test_a_date_and_a_timestamp_are_accepted_from_both_sources(
    text: str, day: str, by: str
) -> None:
    """A timestamp of RFC 3339 stands for its date in UTC, leap seconds included."""
    given_by = {"--date": (text, None), "RUN_DATE": (None, text)}[by]
    assert resolve(*given_by, NOW) == RunDate(day, by)


@pytest.mark.parametrize(
    ("word", "day"),
    [
        ("today", "2026-05-18"),
        ("yesterday", "2026-05-17"),
        ("last-friday", "2026-05-15"),
        ("last-sunday", "2026-05-17"),
        ("last-monday", "2026-05-11"),
        ("last-tuesday", "2026-05-12"),
        ("1-day-ago", "2026-05-17"),
        ("18-days-ago", "2026-04-30"),
        (" Today ", "2026-05-18"),
    ],
)
def test_the_flag_takes_relative_words(word: str, day: str) -> None:
    """They count from today in UTC; a weekday is the last one before today."""
    assert resolve(word, None, NOW).text == day


def test_every_last_weekday_is_one_to_seven_days_ago() -> None:
    """The words are right on each day of a week."""
    for number in range(7):
        now = NOW + timedelta(days=number)
        days = {
            name: date.fromisoformat(resolve(f"last-{name}", None, now).text) for name in WEEKDAYS
        }
        assert {(now.date() - day).days for day in days.values()} == set(range(1, 8))
        assert all(WEEKDAYS[day.weekday()] == name for name, day in days.items())


@pytest.mark.parametrize("word", WORDS)
def test_the_variable_takes_no_relative_word(word: str) -> None:
    """What is carried as data must mean the same tomorrow."""
    message = one_line(call("plan", env={"RUN_DATE": word}), 2)
    assert f"'{word}' is not a run date (set by RUN_DATE)" in message
    assert "today" not in message.partition(";")[2]


@pytest.mark.parametrize("text", REFUSED)
@pytest.mark.parametrize("by", ["--date", "RUN_DATE"])
def test_anything_else_is_refused_with_the_value_its_source_and_what_is_accepted(
    text: str, by: str
) -> None:
    """Exit 2 in one line, whatever characters the value has."""
    words, env = (["--date", text], {}) if by == "--date" else ([], {"RUN_DATE": text})
    message = one_line(call("plan", *words, env=env), 2)
    assert f"{text!a} is not a run date (set by {by})" in message
    assert "YYYY-MM-DD or a timestamp such as 2026-05-17T23:30:00Z" in message


@pytest.mark.parametrize("name", ZONES)
def test_a_clock_in_any_zone_gives_the_date_in_utc(name: str) -> None:
    """I01: zones and changes of the clocks move nothing, on either side of midnight UTC."""
    for night in NIGHTS:
        midnight = datetime.fromisoformat(f"{night}T00:00:00+00:00") + timedelta(days=1)
        for minutes in range(-180, 181, 15):
            moment = midnight + timedelta(minutes=minutes, seconds=-1)
            local = moment.astimezone(ZoneInfo(name))
            assert resolve(None, None, local).text == moment.date().isoformat()
            assert resolve("today", None, local).text == moment.date().isoformat()


@given(
    st.datetimes(timezones=st.integers(-1439, 1439).map(lambda m: timezone(timedelta(minutes=m))))
)
def test_a_timestamp_is_its_date_in_utc_or_is_out_of_range(moment: datetime) -> None:
    """Whatever the offset; the first and the last day of the calendar are refused, not a crash."""
    try:
        expected = moment.astimezone(UTC).date().isoformat()
    except OverflowError:
        with pytest.raises(UsageError):
            resolve(None, moment.isoformat(), NOW)
    else:
        assert resolve(None, moment.isoformat(), NOW).text == expected


def tried(flag: str | None, variable: str) -> RunDate | UsageError:
    """Return the run date or its refusal."""
    try:
        return resolve(flag, variable, NOW)
    except UsageError as error:
        return error


@given(TEXT | DATE_LIKE | st.sampled_from(WORDS), st.booleans())
@example("9999-days-ago", True)
@example("9999999-days-ago", True)
def test_any_text_is_a_canonical_date_or_is_refused(text: str, flag: bool) -> None:
    """Nothing but a UsageError leaves, and nothing but YYYY-MM-DD is planned with."""
    found = tried(text if flag else None, text)
    if isinstance(found, UsageError):
        assert found.code == 2
        assert str(found).isprintable()
    else:
        assert is_run_date(found.text)
        assert date.fromisoformat(found.text).isoformat() == found.text


@given(DATE_LIKE | TEXT)
def test_only_the_canonical_form_is_a_run_date(text: str) -> None:
    """What names a folder in the store has one spelling."""
    if is_run_date(text):
        assert date.fromisoformat(text).isoformat() == text
