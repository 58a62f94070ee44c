"""The section [spot] of the table, and the plan of a run on spot instances."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from shim import options
from shim.plan import Plan
from tests.calls import call, one_line, planned, write_table

STAGE = """
[[stage]]
name = "a"
command = ["true"]
timeout = "1h"
"""
ON_SPOT = ("--on=spot", "--store=s3://bucket/prefix", "--date=2026-05-17")


def spot(folder: Path, section: str, *words: str) -> dict[str, Any]:
    """Return what the plan says of [spot]."""
    table = write_table(folder, f"[spot]\n{section}\n{STAGE}")
    found: dict[str, Any] = planned("--pipeline", str(table), *ON_SPOT, *words)["spot"]
    return found


def refused(folder: Path, section: str) -> str:
    """Return the one line that says what is wrong with [spot]."""
    table = write_table(folder, f"[spot]\n{section}\n{STAGE}")
    return one_line(call("plan", "--pipeline", str(table), *ON_SPOT), 78)


def test_the_plan_of_the_example_can_be_launched_and_travels_whole() -> None:
    """I14: what an instance gets is the plan, as data; typed again it is the same."""
    plan = planned(*ON_SPOT, "--quick-backtest", "--detach")
    assert (plan["on"], plan["detach"]) == ("spot", True)
    assert plan["spot"]["types"][0] == "c7i.large"
    assert plan["stages"][0]["command"][-1] == "--quick"
    done = call("plan", "--json", *ON_SPOT)
    assert Plan.from_json(done.out).to_json() == done.out.rstrip("\n")


def test_a_plan_for_here_holds_nothing_of_spot() -> None:
    """The section is read when it is asked for, so a wrong one stops no run here."""
    assert planned()["spot"] is None
    assert planned()["detach"] is False


def test_an_instance_must_be_able_to_reach_the_store() -> None:
    """A directory is refused before anything is launched, with who set it."""
    message = one_line(call("plan", "--on=spot", "--store=/tmp/here"), 2)
    assert "cannot reach the store '/tmp/here' (set by --store)" in message
    assert "(set by the default)" in one_line(call("plan", "--on=spot"), 2)


def test_detach_is_for_an_instance_alone() -> None:
    """A run here has nobody to leave it to; the flag is not ignored."""
    assert "--detach is for --on spot" in one_line(call("plan", "--detach"), 2)
    assert planned("--no-detach")["detach"] is False


def test_a_table_without_the_section_cannot_be_launched(tmp_path: Path) -> None:
    """The message says what to write."""
    table = write_table(tmp_path / "t", STAGE)
    message = one_line(call("plan", "--pipeline", str(table), *ON_SPOT), 78)
    assert "there is no section [spot]" in message
    assert "add [spot] with launch_template and types" in message


def test_the_defaults_of_the_section_are_three_launches_and_the_time_the_stages_may_take(
    tmp_path: Path,
) -> None:
    """Half an hour beside the timeouts is for the boot, the restore and the end (I28)."""
    found = spot(tmp_path / "t", 'launch_template = "lt-1"\ntypes = ["c5.large"]')
    assert found == {
        "launch_template": "lt-1",
        "version": "$Default",
        "types": ["c5.large"],
        "vcpus": 0,
        "memory": 0,
        "subnets": [],
        "max_runtime": 5400,
        "attempts": 3,
        "backoff": 60,
        "on_demand_last": False,
        "max_price": "",
        "tags": [],
    }
    longer = spot(tmp_path / "u", 'launch_template = "lt-1"\ntypes = ["c5.large"]', "--timeout=3h")
    assert longer["max_runtime"] == 3 * 3600 + 1800


def test_floors_choose_where_no_type_is_named(tmp_path: Path) -> None:
    """I08: memory is in GiB or MiB."""
    found = spot(tmp_path / "t", 'launch_template = "x"\nvcpus = 2\nmemory = "4 GiB"')
    assert (found["types"], found["vcpus"], found["memory"]) == ([], 2, 4096)
    found = spot(tmp_path / "u", 'launch_template = "x"\nvcpus = 2\nmemory = "3800MiB"')
    assert found["memory"] == 3800


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ('types = ["c5.large"]', "launch_template"),
        ('launch_template = ""\ntypes = ["c5.large"]', "launch_template"),
        ('launch_template = "x"', "neither which types nor how large"),
        ('launch_template = "x"\nvcpus = 2', "neither which types nor how large"),
        ('launch_template = "x"\ntypes = "c5.large"', "types"),
        ('launch_template = "x"\ntypes = ["a"]\nsubnet = "s"', "subnet"),
        ('launch_template = "x"\ntypes = ["a"]\nvcpus = -1', "vcpus of [spot] is -1"),
        ('launch_template = "x"\ntypes = ["a"]\nvcpus = true', "vcpus of [spot] is True"),
        ('launch_template = "x"\ntypes = ["a"]\nmemory = "4 GB"', "memory of [spot] is '4 GB'"),
        ('launch_template = "x"\ntypes = ["a"]\nattempts = 21', "attempts of [spot] is 21"),
        ('launch_template = "x"\ntypes = ["a"]\nbackoff = "soon"', "backoff of [spot] is 'soon'"),
        ('launch_template = "x"\ntypes = ["a"]\nmax_runtime = "1h"', "may take 3600 s"),
        ('launch_template = "x"\ntypes = ["a"]\nmax_price = "cheap"', "is 'cheap'"),
        ('launch_template = "x"\ntypes = ["a"]\non_demand_last = 1', "write true or false"),
        ('launch_template = "x"\ntypes = ["a"]\ntags = ["a"]', "tags of [spot]"),
        ('launch_template = "x"\ntypes = ["a"]\ntags = {"aws:x" = "1"}', "the tag 'aws:x'"),
        ('launch_template = "x"\ntypes = ["a"]\ntags = {"spot-backtest:launch" = "1"}', "the tag"),
        ('launch_template = "x"\ntypes = ["a"]\ntags = {"a b" = "1"}', "the tag 'a b'"),
        ('launch_template = "x"\ntypes = ["a"]\ntags = {a = "$(id)"}', "has the value '$(id)'"),
        (
            'launch_template = "x"\ntypes = [' + ",".join(f'"t{i}"' for i in range(301)) + "]",
            "more than 300 pools",
        ),
    ],
)
def test_what_is_wrong_in_the_section_is_said_before_anything_is_launched(
    tmp_path: Path, section: str, said: str
) -> None:
    """Exit 78, one line, with the value and what to write instead."""
    assert said in refused(tmp_path / "t", section)


def test_the_variable_of_detach_is_its_flag() -> None:
    """Its case in the table of options (test_plan) needs an instance."""
    param = next(p for p in options.plan_options() if "--detach" in p.opts)
    assert param.envvar == "SPOT_DETACH"
    assert "--detach is for" in one_line(call("plan", env={"SPOT_DETACH": "1"}), 2)
