"""Text or clock to a run date and where it came from.

A run date is a calendar date `YYYY-MM-DD` (ISO 8601 extended form). A timestamp is accepted in the
form of RFC 3339, section 5.6, and stands for its date in UTC.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from shim.errors import UsageError, shown

DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
HOUR = r"([01][0-9]|2[0-3])"
TIMESTAMP = re.compile(
    rf"[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}[Tt]{HOUR}:[0-5][0-9]:(?P<second>[0-5][0-9]|60)"
    rf"(\.[0-9]+)?([Zz]|[+-]{HOUR}:[0-5][0-9])"
)
DAYS_AGO = re.compile(r"([0-9]{1,4})-days?-ago")
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
RELATIVE = "today, yesterday, last-friday, 3-days-ago"


@dataclass(frozen=True)
class RunDate:
    """A run date as text, and the source that won: `--date`, `RUN_DATE` or `clock`."""

    text: str
    source: str


def resolve(flag: str | None, variable: str | None, now: datetime) -> RunDate:
    """Return the run date from `--date`, else `RUN_DATE`, else the clock.

    `now` has a zone. An empty variable counts as unset; an empty flag is refused. Raises UsageError
    with the value, where it was set and what is accepted.
    """
    today = now.astimezone(UTC).date()
    if flag is not None:
        day = _relative(flag, today) or _absolute(flag)
        if day is None:
            raise _refused(flag, "--date", f", {RELATIVE}")
        return RunDate(day.isoformat(), "--date")
    if variable:
        day = _absolute(variable)
        if day is None:
            raise _refused(variable, "RUN_DATE", "")
        return RunDate(day.isoformat(), "RUN_DATE")
    return RunDate(today.isoformat(), "clock")


def is_run_date(text: str) -> bool:
    """Return whether the text is a run date in its one canonical form."""
    return bool(DATE.fullmatch(text)) and _absolute(text) is not None


def _refused(value: str, source: str, more: str) -> UsageError:
    return UsageError(
        f"{shown(value)} is not a run date (set by {source})",
        f"use YYYY-MM-DD or a timestamp such as 2026-05-17T23:30:00Z{more}",
    )


def _absolute(text: str) -> date | None:
    try:
        if DATE.fullmatch(text):
            return date.fromisoformat(text)
        if match := TIMESTAMP.fullmatch(text):
            # A leap second, which datetime does not know, is in the day of the second before it.
            leap = match["second"] == "60"
            text = f"{text[:17]}59{text[19:]}" if leap else text
            moment = datetime.fromisoformat(text.upper()).astimezone(UTC)
            return None if leap and (moment.hour, moment.minute) != (23, 59) else moment.date()
    except (ValueError, OverflowError):
        return None
    return None


def _relative(text: str, today: date) -> date | None:
    word = text.strip().lower()
    if word == "today":
        return today
    if word == "yesterday":
        return today - timedelta(days=1)
    if match := DAYS_AGO.fullmatch(word):
        return today - timedelta(days=int(match[1]))
    prefix, _, name = word.partition("-")
    if prefix == "last" and name in WEEKDAYS:
        from dateutil.relativedelta import relativedelta, weekday

        # The last such day before today: relativedelta alone would count today itself.
        return today - timedelta(days=1) + relativedelta(weekday=weekday(WEEKDAYS.index(name))(-1))
    return None
