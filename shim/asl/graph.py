"""Which state leads to which, through Parallel and Map states and out of them again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

from shim.asl.walk import State, language, machines, mapping, sends_command, sequence


@dataclass(frozen=True)
class Node:
    """A state; `path` is as `walk` names it, `outer` the path of the state around it, or None."""

    path: str
    prefix: str
    state: State
    outer: str | None
    jsonata: bool

    @property
    def kind(self) -> str:
        """The state's Type."""
        return str(self.state.get("Type"))

    @property
    def resource(self) -> str:
        """The Resource of a Task, else empty."""
        resource = self.state.get("Resource")
        return resource if isinstance(resource, str) else ""

    @property
    def sends(self) -> bool:
        """Whether it sends an SSM command."""
        return sends_command(self.state)

    @property
    def polls(self) -> bool:
        """Whether it asks SSM for one invocation."""
        return self.resource.lower().endswith(":aws-sdk:ssm:getcommandinvocation")

    @property
    def fails(self) -> bool:
        """Whether the machine that it is in fails there."""
        return self.kind == "Fail"

    @property
    def ends(self) -> bool:
        """Whether the machine that it is in may end there well."""
        return self.kind == "Succeed" or self.state.get("End") is True


class Graph:
    """The states of a definition by path, and the ways between them."""

    def __init__(self, definition: State) -> None:
        self.definition = definition
        self.nodes: dict[str, Node] = {}
        self.starts: dict[str, str] = {}
        self.inner: dict[str, tuple[str, ...]] = {}
        self._add(definition, "", None)

    def _add(self, machine: State, prefix: str, outer: str | None) -> None:
        self.starts[prefix] = f"{prefix}{machine.get('StartAt')}"
        for name, state in mapping(machine.get("States")).items():
            if not isinstance(state, dict):
                continue
            path = f"{prefix}{name}"
            jsonata = language(self.definition, state) == "JSONata"
            self.nodes[path] = Node(path, prefix, state, outer, jsonata)
            inside = list(machines(path, state))
            self.inner[path] = tuple(inner for inner, _ in inside)
            for inner, other in inside:
                self._add(other, inner, path)

    def target(self, node: Node, name: object) -> str | None:
        """Return the path of a state that another one names; None if there is none."""
        path = f"{node.prefix}{name}"
        return path if isinstance(name, str) and path in self.nodes else None

    def named(self, node: Node) -> Iterator[tuple[str, str]]:
        """Return where a state leads: the way (Next, Choice, Default, Catch) and the path."""
        state = node.state
        ways: list[tuple[str, object]] = [("Catch", c.get("Next")) for c in catchers(state)]
        if node.kind == "Choice":
            ways += [("Choice", mapping(r).get("Next")) for r in sequence(state.get("Choices"))]
            ways.append(("Default", state.get("Default")))
        else:
            ways.append(("Next", state.get("Next")))
        for way, name in ways:
            path = self.target(node, name)
            if path is not None:
                yield way, path

    @cached_property
    def successors(self) -> dict[str, tuple[str, ...]]:
        """For each path those that may come next; the end of an inner machine leads outwards."""
        return {path: tuple(dict.fromkeys(self._next(node))) for path, node in self.nodes.items()}

    def _next(self, node: Node) -> Iterator[str]:
        yield from (path for _, path in self.named(node))
        for prefix in self.inner[node.path]:
            if self.starts[prefix] in self.nodes:
                yield self.starts[prefix]
        if node.outer is not None and (node.ends or node.fails):
            way = ("Next",) if node.ends else ("Catch",)
            yield from (p for w, p in self._outward(self.nodes[node.outer]) if w in way)

    def _outward(self, outer: Node) -> Iterator[tuple[str, str]]:
        yield from self.named(outer)
        if outer.outer is not None:
            if outer.ends:
                further = self._outward(self.nodes[outer.outer])
                yield from (found for found in further if found[0] == "Next")
            further = self._outward(self.nodes[outer.outer])
            yield from (found for found in further if found[0] == "Catch")

    @cached_property
    def order(self) -> dict[str, int]:
        """A number for each path: states come after what leads to them, as far as loops allow."""
        after: list[str] = []
        seen: set[str] = set()
        stack = [(path, False) for path in (*reversed(self.nodes), *self.starts.values())]
        while stack:
            path, done = stack.pop()
            if done:
                after.append(path)
            elif path in self.nodes and path not in seen:
                seen.add(path)
                stack.append((path, True))
                stack += [(other, False) for other in self.successors[path]]
        return {path: number for number, path in enumerate(reversed(after))}

    def reach(self, starts: Iterable[str], without: Iterable[str] = ()) -> set[str]:
        """Return the starts and all that they lead to, not going on from (or into) `without`."""
        barred = set(without)
        found: set[str] = set()
        open_paths = [path for path in starts if path in self.nodes and path not in barred]
        while open_paths:
            path = open_paths.pop()
            if path not in found:
                found.add(path)
                open_paths += [p for p in self.successors[path] if p not in barred]
        return found

    def leading_to(self, targets: set[str]) -> set[str]:
        """Return the targets and all states from which one of them can be reached."""
        found: set[str] = set()
        while more := {
            path
            for path in self.nodes
            if path not in found
            and (path in targets or not found.isdisjoint(self.successors[path]))
        }:
            found |= more
        return found


def catchers(state: State) -> list[State]:
    """Return a state's catchers."""
    return [mapping(catcher) for catcher in sequence(state.get("Catch"))]
