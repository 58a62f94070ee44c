"""Typed reading of a TOML table, with messages that name the key and the nearest right one."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from shim.errors import PipelineError, nearest, shown
from shim.fields import unknown_field

SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?)\s*(?:([KMGT])(I?))?B?", re.IGNORECASE)
DURATION = re.compile(r"(?:([0-9]{1,4})h)?(?:([0-9]{1,6})m)?(?:([0-9]{1,7})s)?")
LONGEST = 10**7  # seconds, 115 days: no run, and no timer, has more


class Reader:
    """Reads typed values out of a table and says where a wrong one stands.

    `where` ends the sentence: ` of stage parity`. Every method raises PipelineError.
    """

    def __init__(self, path: str) -> None:
        self.path = path

    def wrong(self, what: str, hint: str = "") -> PipelineError:
        return PipelineError(f"{self.path}: {what}", hint)

    def keys(self, table: Mapping[str, Any], known: Iterable[str], where: str) -> None:
        for key in table:
            if key not in known:
                raise self.wrong(f"unknown key {shown(key)}{where}", nearest(key, known))

    def text(self, table: Mapping[str, Any], key: str, where: str, default: str) -> str:
        value = table.get(key, default)
        if not isinstance(value, str) or not value or "\0" in value:
            raise self.wrong(f"{key}{where} is {shown(value)}", "give it a text")
        return value

    def optional(self, table: Mapping[str, Any], key: str, where: str) -> str | None:
        return self.text(table, key, where, "") if key in table else None

    def texts(
        self, table: Mapping[str, Any], key: str, where: str, default: tuple[str, ...] = ()
    ) -> tuple[str, ...]:
        value = table.get(key, list(default))
        if not isinstance(value, list) or not all(isinstance(v, str) and v for v in value):
            raise self.wrong(f"{key}{where} is {shown(value)}", 'give it a list, as ["a", "b"]')
        if any("\0" in item for item in value):
            raise self.wrong(f"{key}{where} holds a NUL character")
        return tuple(value)

    def fields(self, texts: Iterable[str], known: Collection[str], key: str, where: str) -> None:
        for text in texts:
            name = unknown_field(text, known)
            if name is not None:
                raise self.wrong(
                    f"{key}{where} has the unknown field {shown(name)} in {shown(text)}",
                    f"{nearest(name, known)} (a plain brace is written twice)",
                )

    def size(self, table: Mapping[str, Any], key: str, where: str, default: int) -> int:
        """Return bytes from a number or a text such as 500MB; false is none at all."""
        value = table.get(key, default)
        if value is False:
            return 0
        text = str(value) if type(value) in (int, str) else ""
        match = SIZE.fullmatch(text.strip())
        if not match:
            raise self.wrong(
                f"{key}{where} is {shown(value)}", 'give it a size, as "10GB", or false for none'
            )
        power = " KMGT".index((match[2] or " ").upper())
        return int(float(match[1]) * (1024 if match[3] else 1000) ** power)


def duration(value: object) -> int | None:
    """Return seconds from `90`, `90s`, `45m`, `2h` or `1h30m`; None if it is no such value."""
    text = f"{value}s" if type(value) is int else value
    if not isinstance(text, str):
        return None
    text = text.strip()
    match = DURATION.fullmatch(f"{text}s" if text.isdecimal() else text)
    if not match:
        return None
    hours, minutes, seconds = (int(part or 0) for part in match.groups())
    total = hours * 3600 + minutes * 60 + seconds
    return total if 0 < total < LONGEST else None
