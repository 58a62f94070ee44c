"""What a definition sends: the lines of every state, followed from the execution's input."""

from __future__ import annotations

import copy
import json
import shlex
import subprocess
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shim.asl.intrinsics import quote
from shim.asl.render import Commands, extract_commands, render
from shim.asl.values import AslError, Reading
from shim.asl.walk import walk
from tests.definitions import SEND, START, machine, send, weekly


def rendered(definition: dict[str, Any], given: Any = None) -> dict[str, Commands]:
    """Return what each state sends in an execution that starts a second before midnight."""
    found = render(definition, given, START, "name")
    assert found.problems == ()
    return {commands.state: commands for commands in found.commands}


def test_every_line_is_shown_as_it_is_sent() -> None:
    """One date in all states, in the main line, in a Parallel and after it; a Map's items too."""
    found = rendered(weekly())
    texts = {path: commands.texts() for path, commands in found.items()}
    assert texts == {
        "One": ("run 2026-05-17",),
        "Both[0]/Left": ("export RUN_DATE=2026-05-17", "run"),
        "Both[1]/Right": ("export RUN_DATE=2026-05-17", "run"),
        "Each/Item": ("a", "<Each.index>"),
        "Last": ("run 2026-05-17",),
        "Cancel": ("<One.Command.CommandId> <Poll.Cause>",),
    }
    assert found["One"].script() == "run 2026-05-17\n"
    assert found["Cancel"].documented[0].holes == ("One.Command.CommandId", "Poll.Cause")
    assert found["Cancel"].documented[0].filled("x") == "x x"
    assert all(commands.reached and not commands.problems for commands in found.values())
    assert [path for path, _ in walk(weekly())][-4:] == ["Each", "Each/Item", "Last", "Cancel"]


def test_the_inputs_date_wins_and_a_swapped_merge_is_seen() -> None:
    """I29: the defaults beat the input when the arguments of the merge are swapped."""
    given = {"run_date": "2026-01-02", "dry": True}
    assert rendered(weekly(), given)["One"].texts() == ("run 2026-01-02 --dry-run",)
    swapped = json.loads(json.dumps(weekly()).replace("$.defaults,$.input", "$.input,$.defaults"))
    assert rendered(swapped, given)["One"].texts() == ("run 2026-05-17",)


def test_a_constant_that_a_choice_picks_is_no_text_of_the_input() -> None:
    """I39: hostile text where a boolean is wanted ends up in no line; in the date it is shown."""
    hostile = "; touch /tmp/x"
    given = {"dry": hostile, "run_date": hostile}
    assert rendered(weekly(), given)["One"].texts() == ("run ; touch /tmp/x",)


def test_a_state_that_is_skipped_is_shown_and_marked() -> None:
    """I15: skipping one stage skips that one; its lines come as if every choice were open."""
    found = rendered(weekly(), {"skip_one": True})
    assert [path for path, commands in found.items() if not commands.reached] == ["One", "Cancel"]
    assert found["One"].texts() == ("run 2026-05-17<SkipOne.input.flag>",)


def test_the_backslash_of_an_inner_quote_is_seen_and_breaks_the_trap() -> None:
    """I02: what AWS was seen to send exits with the incident's message; the document's does not."""
    text = r"States.Array('trap \'aws s3 cp log s3://b/\' EXIT', States.Format('d=\'{}\'', 'x'))"
    found = extract_commands(send(text))
    assert found
    assert found.differs
    assert found.texts(Reading.DOCUMENTED) == ("trap 'aws s3 cp log s3://b/' EXIT", "d='x'")
    assert found.texts() == (r"trap \'aws s3 cp log s3://b/\' EXIT", "d='x'")
    done = subprocess.run(
        ["bash", "-c", found.script()], capture_output=True, text=True, check=False
    )
    assert "trap: s3: invalid signal specification" in done.stderr


def test_a_plain_list_is_sent_as_it_stands() -> None:
    """I02: both forms go through the same function, so a test of lines sees both."""
    lines = ["set -eu", r"trap \'x\' EXIT", "echo {} $.x"]
    found = extract_commands(send(lines, "commands"))
    assert found
    assert found.texts() == tuple(lines)
    assert not found.differs


@settings(max_examples=25, deadline=None)
@given(st.text(st.characters(exclude_characters="\0\r", exclude_categories=["Cs"]), max_size=30))
def test_any_text_reaches_a_program_byte_for_byte(text: str) -> None:
    """Quoted for the shell, then for the template, then rendered, then run by sh."""
    command = f"printf %s {shlex.quote(text)}"
    found = extract_commands(send(f"States.Array(States.Format({quote(command)}))"))
    assert found
    done = subprocess.run(["sh", "-c", found.script()], capture_output=True, check=True)
    assert done.stdout.decode() == text


@pytest.mark.parametrize(
    ("resource", "sends"),
    [
        (SEND, True),
        ("arn:aws-cn:states:::aws-sdk:SSM:SendCommand.waitForTaskToken", True),
        ("arn:aws:states:::aws-sdk:ssm:getCommandInvocation", False),
        ("arn:aws:states:::aws-sdk:ssm:sendCommandX:y", False),
        (None, False),
    ],
)
def test_only_what_sends_a_command_has_lines(resource: object, sends: bool) -> None:
    """In whatever case the action is written."""
    found = extract_commands(send(["x"], "commands", Resource=resource))
    assert (found is not None) == sends


def test_a_state_alone_has_its_paths_as_holes() -> None:
    """A wiring test needs no input: the paths are what it looks at."""
    found = extract_commands(
        send("States.Array(States.Format('d={}',$.run_date),$$.Execution.Name)")
    )
    assert found
    assert found.texts() == ("d=<$.run_date>", "<$$.Execution.Name>")


@pytest.mark.parametrize(
    ("states", "line", "problem"),
    [
        ({"A": send("States.Array($.no)")}, "<States.Array($.no)>", "$.no is not in the state's"),
        ({"A": send("States.Array(5,'x')")}, "<A.commands[0]>", "command 1 is not text"),
        ({"A": send("x", "commands")}, None, "not an array"),
        ({"A": send([], "other")}, None, "no commands"),
        ({"A": send(r"States.Array('\n')")}, r"<States.Array('\n')>", "a backslash before 'n'"),
        ({"A": send("States.Array('it's')")}, "<States.Array('it's')>", "not an intrinsic"),
        ({"A": {"Type": "Succeed"}, "B": send("$.x")}, "<B.input.x>", "no state leads to it"),
    ],
)  # fmt: skip
def test_what_would_fail_is_said(states: dict[str, Any], line: str | None, problem: str) -> None:
    """A line that AWS would never send is a hole, and the reason stands beside it."""
    (found,) = render(machine(**states), {}, START, "n").commands
    assert found.texts() == ((line,) if line else ()) or found.texts()[0] == line
    assert problem in " ".join(found.problems)


def test_a_date_that_is_lost_on_the_way_is_a_hole() -> None:
    """A task without ResultPath replaces the whole input by its result."""
    task = {"Type": "Task", "Resource": "arn:aws:states:::lambda:invoke", "Next": "B"}
    lost = machine(A=task, B=send("States.Array($.run_date)"))
    assert rendered(lost, {"run_date": "2026-05-17"})["B"].texts() == ("<A.run_date>",)
    lost["States"]["A"]["ResultPath"] = "$.result"
    assert rendered(lost, {"run_date": "2026-05-17"})["B"].texts() == ("2026-05-17",)


def test_a_loop_ends_and_keeps_what_it_does_not_change() -> None:
    """A counter is open after its second turn; an input that grows in each turn is given up."""
    count = {"Type": "Pass", "Parameters": {"n.$": "States.MathAdd($.n,1)", "d.$": "$.d"}}
    lines = "States.Array(States.Format('{} {}',$.d,$.n))"
    loop = machine(A={**count, "Next": "B"}, B=send(lines, ResultPath=None, End=False, Next="A"))
    assert rendered(loop, {"n": 0, "d": "x"})["B"].texts() == ("x <B.input.n>",)
    nest = {"Type": "Pass", "Parameters": {"a.$": "$"}, "Next": "B"}
    grow = machine(A=nest, B=send("States.Array($.a.a.a)", End=False, Next="A", ResultPath="$.b"))
    (found,) = render(grow).commands
    assert found.texts() == ("<B.input.a.a.a>",)


def test_jsonata_is_shown_and_not_evaluated() -> None:
    """Texts between expressions are known, and a problem says what is not."""
    expression = "{% 'export RUN_DATE=' & $states.input.run_date %}"
    arguments = {"Parameters": {"commands": ["set -eu", expression]}}
    state = {"Type": "Task", "Resource": SEND, "Arguments": arguments, "End": True}
    (found,) = render({"QueryLanguage": "JSONata", **machine(A=state)}).commands
    assert found.texts() == ("set -eu", f"<JSONata {expression}>")
    assert "JSONata, which is not evaluated" in found.problems[0]


def test_hundreds_of_states_are_rendered_to_the_last() -> None:
    """Thirty chained machines, each with choices, a loop, a Parallel and a Map."""
    states: dict[str, Any] = {}
    for number in range(25):
        text = json.dumps(weekly()["States"])
        for name in [path.rpartition("/")[2] for path, _ in walk(weekly())]:
            text = text.replace(f'"{name}"', f'"{name}{number}"')
        part = json.loads(text)
        last = part[f"Last{number}"]
        last.update({"End": False, "Next": f"Defaults{number + 1}", "ResultPath": None})
        states |= part
    states["Defaults25"] = {"Type": "Succeed"}
    definition = {"StartAt": "Defaults0", "States": states}
    assert len(list(walk(definition))) > 300
    found = rendered(definition)
    assert found["Last24"].texts() == ("run 2026-05-17",)


NAMES = [
    "A",
    "Pass",
    "Task",
    "Parallel",
    "Choice",
    "$",
    "$.A",
    "States.Array('A',$.A)",
    SEND,
    "{% x %}",
]
KEYS = ["A", "StartAt", "States", "Type", "Next", "Parameters", "commands.$", "Branches", "Choices", "ResultPath", "Catch", "Resource"]  # fmt: skip  # noqa: E501
ANY = st.recursive(
    st.sampled_from(NAMES) | st.none() | st.booleans() | st.integers() | st.floats(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4)
    ),
    max_leaves=20,
)


@settings(max_examples=150, deadline=None)
@given(ANY, ANY, st.data())
def test_nothing_that_json_holds_breaks_it(value: Any, other: Any, data: st.DataObject) -> None:
    """Neither as a machine, nor as its input, nor in the place of any part of a good machine."""
    render({"StartAt": "A", "States": value}, other, START, "n")
    damaged = copy.deepcopy(weekly())
    _, state = data.draw(st.sampled_from(list(walk(damaged))))
    assert isinstance(state, dict)
    state[data.draw(st.sampled_from(sorted(state)))] = value
    render(damaged, other, START, "n")


def test_what_nests_without_end_is_refused() -> None:
    """One sentence instead of a RecursionError."""
    deep: Any = "x"
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(AslError, match="too deep"):
        render(machine(A=send([deep], "commands")))
