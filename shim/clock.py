"""The only reader of the wall clock: what is named by it is named once, by whoever asks here."""

from datetime import UTC, datetime


def utc_now() -> datetime:
    """Return the current time in UTC."""
    return datetime.now(UTC)


def compact(moment: datetime) -> str:
    """Return a moment as `20260517T235958Z`: sorts by time, safe in a key and in a file name."""
    return moment.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")


def iso(moment: datetime) -> str:
    """Return a moment as RFC 3339 text in UTC, to the second."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
