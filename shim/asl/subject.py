"""One definition as the rules see it; each view of it is made when a rule asks for it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from shim.asl import paths
from shim.asl.after import After
from shim.asl.files import Found
from shim.asl.graph import Graph, Node, catchers
from shim.asl.render import Commands, render
from shim.asl.script import DATE, Script
from shim.asl.shape import Array, Known, Object, Opaque, Presence, Shape, read
from shim.asl.trace import Trace
from shim.asl.values import AslError, Unknown
from shim.asl.walk import State, mapping

SHELL_DOCUMENT = "AWS-RunShellScript"


@dataclass(frozen=True)
class Sender:
    """A state that sends lines to a shell."""

    node: Node
    commands: Commands
    script: Script

    @property
    def path(self) -> str:
        """The state's path."""
        return self.node.path

    @property
    def stage(self) -> bool:
        """Whether it runs a stage: it launches one, or names the run date."""
        return bool(self.script.launches) or DATE.search(self.script.text) is not None


class Subject:
    """A definition: its states and the ways between them, its scripts, what reaches its states."""

    def __init__(self, found: Found) -> None:
        self.definition = found.definition
        self.graph = Graph(found.definition)
        self.text = json.dumps(found.definition, default=str)
        self._afters: dict[tuple[str, str], After] = {}

    @property
    def nodes(self) -> Iterator[Node]:
        """The states, in the order of the text."""
        yield from self.graph.nodes.values()

    @cached_property
    def senders(self) -> tuple[Sender, ...]:
        """The states that send a shell script, and what is known of it with any input."""
        rendering = render(self.definition, Unknown("$$.Execution.Input"))
        return tuple(
            Sender(self.graph.nodes[commands.state], commands, Script(commands.observed))
            for commands in rendering.commands
            if commands.document.rpartition("/")[2] == SHELL_DOCUMENT and commands.observed
        )

    @cached_property
    def trace(self) -> Trace:
        """What reaches each state, on every way."""
        return Trace(self.graph).run()

    def after(self, path: str, status: str) -> After:
        """Return what a poll leads to when the invocation has a status, up to the next command."""
        known = self._afters.get((path, status))
        if known is None:
            known = After(self.trace, path).follow_value("Status", status)
            self._afters[path, status] = known
        return known

    def after_error(self, path: str) -> After:
        """Return what the errors of a Task lead to, up to the next command."""
        return After(self.trace, path).follow_errors()


def request(node: Node) -> State:
    """Return the parameters of a Task as written."""
    return mapping(node.state.get("Arguments" if node.jsonata else "Parameters"))


def texts(value: Any, where: str = "") -> Iterator[tuple[str, str]]:
    """Return every text in a state, with the name of its field; not those of states inside."""
    if isinstance(value, dict):
        for key, item in value.items():
            if key not in ("Branches", "ItemProcessor", "Iterator"):
                yield from texts(item, key)
    elif isinstance(value, list):
        for item in value:
            yield from texts(item, where)
    elif isinstance(value, str):
        yield where, value


@dataclass(frozen=True)
class Lack:
    """A path that a state reads and one way to it does not carry; `name` is its last field."""

    state: str
    text: str
    name: str
    how: str
    way: tuple[str, ...]


def lacking(subject: Subject) -> Iterator[Lack]:
    """Return the paths that name nothing on some way, as far as that is certain."""
    errors = _of_errors(subject)
    for (state, text), seen in subject.trace.reads.items():
        try:
            steps = paths.parse(text).steps or ()
        except AslError:  # `render` reports it
            continue
        if not steps:
            continue
        name, top = str(steps[-1]), f"$.{steps[0]}"
        if Presence.NEVER in seen:
            yield Lack(state, text, name, "not there: the state fails", seen[Presence.NEVER])
        elif Presence.UNWRITTEN in seen and Presence.SURE in seen:
            # The input may hold it, unless it is what an error leaves; but a date that one way
            # stamps is missing on the other.
            telling = top in errors or DATE.fullmatch(name) is not None
            if telling and _written(subject, state, steps):
                how = "set by no state, as other ways do: only the input could hold it"
                yield Lack(state, text, name, how, seen[Presence.UNWRITTEN])


def _of_errors(subject: Subject) -> set[str]:
    """Return the places that only errors fill: those of a Catch, and of states that end in Fail."""
    graph = subject.graph
    well = graph.leading_to({path for path, node in graph.nodes.items() if node.ends})
    lost = [node for path, node in graph.nodes.items() if path not in well]
    places = {str(c.get("ResultPath")) for node in subject.nodes for c in catchers(node.state)}
    places |= {str(node.state.get("ResultPath")) for node in lost if node.kind in ("Pass", "Task")}
    return places - {"None", "$"}


def _written(subject: Subject, state: str, steps: tuple[str | int, ...]) -> bool:
    """Return whether a state has set a field on some way, not only a Choice seen it."""
    raw = ".".join(["input", *map(str, steps)])
    for evaluator in subject.trace.evaluators(state):
        shape, presence = read(evaluator.shape, steps, evaluator.arrival.refined)
        if presence is Presence.SURE and not (isinstance(shape, Opaque) and shape.id == raw):
            return True
    return False


@dataclass(frozen=True)
class Budget:
    """The timeouts of an SSM command: values, or None for what is not set or not certain.

    `closed` says that the parameters are all known, so that what is not there is not set.
    """

    execution: object
    delivery: object
    closed: bool


def budgets(subject: Subject) -> Iterator[tuple[str, Budget]]:
    """Return the timeouts of each state that sends a shell script."""
    for sender in subject.senders:
        if sender.node.jsonata:
            continue
        for evaluator in subject.trace.evaluators(sender.path):
            whole = evaluator.template(request(sender.node))
            refined = evaluator.arrival.refined
            parameters, _ = read(whole, ("Parameters",), refined)
            execution, _ = read(parameters, ("executionTimeout",), refined)
            first = read(execution, (0,), refined)[0] if isinstance(execution, Array) else execution
            closed = (
                isinstance(parameters, Object)
                and parameters.rest is None
                and "executionTimeout" not in parameters.slots
            )
            delivery, _ = read(whole, ("TimeoutSeconds",), refined)
            yield sender.path, Budget(_value(first), _value(delivery), closed)


def _value(shape: Shape) -> object:
    return shape.value if isinstance(shape, Known) else None
