"""The section [spot] of pipeline.toml: which instances may run the stages, and for how long."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shim.errors import shown
from shim.reader import Reader, duration

KEYS = ("launch_template", "version", "types", "vcpus", "memory", "subnets", "max_runtime",
        "attempts", "backoff", "on_demand_last", "max_price", "tags")  # fmt: skip
OWN_TAG = "spot-backtest:"
MEMORY = re.compile(r"([0-9]{1,6}) ?(GiB|MiB)")
PRICE = re.compile(r"[0-9]{1,4}(\.[0-9]{1,6})?")
# IMDS shows tags with such keys only: work-with-tags-in-IMDS.html in the EC2 user guide.
TAG_KEY = re.compile(r"[A-Za-z0-9+\-.,_:@]{1,128}")
TAG_VALUE = re.compile(r"[A-Za-z0-9 +\-=._:/@]{0,256}")
MOST_TAGS = 40  # of 50 (Using_Tags.html in the EC2 user guide); the rest is ours
MOST_POOLS = 300  # overrides of an instant fleet (ec2-fleet-quotas: launch specifications)
MOST_ATTEMPTS = 20
LONGEST_PAUSE = 900  # seconds between two launches, however often the pause was doubled
AFTER = 600  # seconds beyond its deadline until an instance is ended by others, and gone
HEAD_START = 1800  # seconds beside the stages' timeouts: to boot, to restore, to end


@dataclass(frozen=True)
class Spot:
    """What may be launched. `max_runtime` and `backoff` are in seconds, `memory` in MiB, 0 is none.

    `types` may be empty, then `vcpus` and `memory` choose; a tag is `key=value`; `max_price` is in
    USD an hour, empty for no limit of ours.
    """

    launch_template: str
    version: str
    types: tuple[str, ...]
    vcpus: int
    memory: int
    subnets: tuple[str, ...]
    max_runtime: int
    attempts: int
    backoff: int
    on_demand_last: bool
    max_price: str
    tags: tuple[str, ...]

    @property
    def longest(self) -> int:
        """The seconds that all launches of a plan may take, with the waits between them."""
        waits = sum(self.pause(number) for number in range(1, self.attempts))
        return self.attempts * (self.max_runtime + AFTER) + waits

    def pause(self, number: int) -> int:
        """Return the wait after launch `number` that found no capacity, in seconds."""
        return min(self.backoff << (number - 1), LONGEST_PAUSE)


def parse(section: object, path: str, timeouts: int) -> Spot:
    """Validate the section; `timeouts` is the sum of the planned stages', in seconds.

    Raises PipelineError.
    """
    reader = Reader(path)
    if not isinstance(section, dict):
        raise reader.wrong(
            "there is no section [spot], which --on spot needs",
            'add [spot] with launch_template and types, as in the README under "On spot instances"',
        )
    where = " of [spot]"
    reader.keys(section, KEYS, where)
    types, subnets = (reader.texts(section, key, where) for key in ("types", "subnets"))
    vcpus, memory = _number(reader, section, "vcpus", 0, 1024), _memory(reader, section)
    if not types and not (vcpus and memory):
        raise reader.wrong(
            "[spot] says neither which types nor how large",
            'give types = ["c7i.large", …], or floors: vcpus = 2 and memory = "4 GiB"',
        )
    if max(len(types), 1) * max(len(subnets), 1) > MOST_POOLS:
        raise reader.wrong(f"[spot] has more than {MOST_POOLS} pools", "name fewer types")
    price = reader.text(section, "max_price", where, "0")
    if not PRICE.fullmatch(price):
        raise reader.wrong(f"max_price{where} is {shown(price)}", 'give USD an hour: "0.25"')
    return Spot(
        launch_template=reader.text(section, "launch_template", where, ""),
        version=reader.text(section, "version", where, "$Default"),
        types=types,
        vcpus=vcpus,
        memory=memory,
        subnets=subnets,
        max_runtime=_runtime(reader, section, timeouts),
        attempts=_number(reader, section, "attempts", 3, MOST_ATTEMPTS) or 1,
        backoff=_seconds(reader, section, "backoff", 60),
        on_demand_last=_switch(reader, section, "on_demand_last"),
        max_price="" if float(price) == 0 else price,
        tags=_tags(reader, section.get("tags", {})),
    )


def _number(reader: Reader, section: Mapping[str, Any], key: str, default: int, most: int) -> int:
    value = section.get(key, default)
    if type(value) is not int or not 0 <= value <= most:
        raise reader.wrong(f"{key} of [spot] is {shown(value)}", f"give a number up to {most}")
    return value


def _memory(reader: Reader, section: Mapping[str, Any]) -> int:
    text = reader.text(section, "memory", " of [spot]", "0 MiB")
    match = MEMORY.fullmatch(text)
    if not match:
        raise reader.wrong(f"memory of [spot] is {shown(text)}", 'write "16 GiB" or "3800 MiB"')
    return int(match[1]) * (1024 if match[2] == "GiB" else 1)


def _seconds(reader: Reader, section: Mapping[str, Any], key: str, default: int) -> int:
    value = duration(section.get(key, default))
    if value is None:
        raise reader.wrong(
            f"{key} of [spot] is {shown(section.get(key))}",
            "give it seconds, or a text such as 45m or 2h",
        )
    return value


def _runtime(reader: Reader, section: Mapping[str, Any], timeouts: int) -> int:
    least = timeouts + HEAD_START
    value = _seconds(reader, section, "max_runtime", least)
    if value < least:
        raise reader.wrong(
            f"max_runtime of [spot] is {value} s, and the planned stages may take {timeouts} s "
            f"and the instance {HEAD_START} s more",
            f"give it {least} or more, or leave it out",
        )
    return value


def _switch(reader: Reader, section: Mapping[str, Any], key: str) -> bool:
    value = section.get(key, False)
    if not isinstance(value, bool):
        raise reader.wrong(f"{key} of [spot] is {shown(value)}", "write true or false")
    return value


def _tags(reader: Reader, table: object) -> tuple[str, ...]:
    if not isinstance(table, dict) or len(table) > MOST_TAGS:
        raise reader.wrong(f"tags of [spot] is {shown(table)}", 'write tags = {team = "quant"}')
    for name, value in table.items():
        if not TAG_KEY.fullmatch(name) or name.lower().startswith(("aws:", OWN_TAG)):
            raise reader.wrong(
                f"the tag {shown(name)} of [spot] cannot be set on an instance",
                "use letters, digits and + - . , _ : @, and no name that starts with aws: "
                f"or {OWN_TAG}",
            )
        if not isinstance(value, str) or not TAG_VALUE.fullmatch(value):
            raise reader.wrong(
                f"the tag {shown(name)} of [spot] has the value {shown(value)}",
                "use letters, digits, spaces and + - = . _ : / @",
            )
    return tuple(f"{name}={value}" for name, value in table.items())
