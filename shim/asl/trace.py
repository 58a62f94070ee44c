"""Every way through a definition, whatever the input: what reaches each state on each of them.

`flow` follows one execution for `render`; this follows all, for what a lint claims must hold for
every execution. Ways that bring a state the same fields are one; ways that differ in a field which
is still read are kept apart, so that a field which one of them lacks is seen. Where that would be
more than `MOST` ways they are joined, and what they differ in is in doubt.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from shim.asl.arrival import LOST, Arrival, applied, met, placed
from shim.asl.assume import assume
from shim.asl.evaluate import Evaluator, answer, item_of
from shim.asl.graph import Graph, Node, catchers
from shim.asl.join import join
from shim.asl.live import live_fields
from shim.asl.shape import (
    INPUT,
    Array,
    Object,
    Opaque,
    Origin,
    Presence,
    Shape,
    Slot,
    literal,
)
from shim.asl.walk import mapping, sequence

MOST = 12
"""How many ways into one state are kept apart."""
PATIENCE = 40
"""How often what one way brings may change before it counts as unknown (a loop)."""
SHOWN = 6
"""How many states of a way are kept, to be shown."""
Key = tuple[Any, ...]


class Trace:
    """What reaches the states of a graph; `run` follows it from the start."""

    def __init__(self, graph: Graph, live: Mapping[str, frozenset[str]] | None = None) -> None:
        self.graph = graph
        self.arrivals: dict[str, dict[Key, Arrival]] = {}
        self.ends: dict[str, Shape] = {}
        self.reads: dict[tuple[str, str], dict[Presence, tuple[str, ...]]] = {}
        self.live = live_fields(graph) if live is None else live
        self._queue: list[tuple[int, str, Key]] = []
        self._waiting: set[tuple[str, Key]] = set()
        self._visits: dict[tuple[str, Key], int] = {}

    def run(self) -> Trace:
        """Follow the definition from its start, with any input."""
        self.arrive(self.graph.starts[""], Arrival(Object(rest=INPUT)))
        self._work()
        return self

    def at(self, path: str) -> list[Arrival]:
        """Return what reaches a state; nothing when no way leads to it."""
        return list(self.arrivals.get(path, {}).values())

    def evaluators(self, path: str) -> Iterator[Evaluator]:
        """Return, for each way to a state, what fills its templates, InputPath applied."""
        node = self.graph.nodes[path]
        for arrival in self.at(path):
            yield self.selected(self.evaluator(node, arrival, unseen), node)

    def arrive(self, path: str | None, arrival: Arrival) -> None:
        """Take what one more way brings to a state."""
        if path is None or path not in self.graph.nodes:
            return
        here = self.arrivals.setdefault(path, {})
        key = self._key(path, arrival)
        if key not in here and len(here) >= MOST:
            key = ()
        old = here.get(key)
        new = arrival
        if old is not None:
            new = met(old, arrival, f"{path}|in")
            if new is old or new == old:
                return
            self._visits[path, key] = self._visits.get((path, key), 0) + 1
            if self._visits[path, key] > PATIENCE:
                new = Arrival(LOST, {}, LOST, old.via)
                if new == old:
                    return
        here[key] = new
        self._await(path, key)

    def _await(self, path: str, key: Key) -> None:
        """Have a state followed: after what leads to it, so that most are followed once."""
        if (path, key) not in self._waiting:
            self._waiting.add((path, key))
            heapq.heappush(self._queue, (self.graph.order[path], path, key))

    def _key(self, path: str, arrival: Arrival) -> Key:
        shape = arrival.shape
        if not isinstance(shape, Object):
            return (type(shape).__name__,)
        live = self.live[path]
        set_fields = tuple(
            (name, slot.sure)
            for name, slot in sorted(shape.slots.items())
            if name in live and not slot.proven
        )
        return ("Object", shape.rest is None or shape.pascal, set_fields)

    def _work(self) -> None:
        while self._queue:
            _, path, key = heapq.heappop(self._queue)
            self._waiting.discard((path, key))
            self._step(self.graph.nodes[path], self.arrivals[path][key])

    def evaluator(
        self, node: Node, arrival: Arrival, seen: Callable[[str, Presence], None]
    ) -> Evaluator:
        return Evaluator(node.path, arrival, seen, node.jsonata)

    def selected(self, evaluator: Evaluator, node: Node) -> Evaluator:
        """Apply InputPath."""
        if not node.jsonata and "InputPath" in node.state:
            path = node.state["InputPath"]
            evaluator.shape = Object() if path is None else evaluator.expression(path)
        return evaluator

    def _step(self, node: Node, arrival: Arrival) -> None:
        """Follow one way through one state."""
        own = f"{node.path}|"
        if any(name.startswith(own) for name in arrival.refined):
            kept = {k: v for k, v in arrival.refined.items() if not k.startswith(own)}
            arrival = replace(arrival, refined=kept)
        via = (*arrival.via, node.path)[-SHOWN:]

        def seen(text: str, presence: Presence) -> None:
            self.reads.setdefault((node.path, text), {}).setdefault(presence, via)

        evaluator = self.selected(self.evaluator(node, arrival, seen), node)
        arrival = replace(arrival, via=via)
        if node.kind == "Choice":
            self._choose(node, arrival, evaluator, seen)
        elif node.fails:
            self._told(node, evaluator)
            self._failed(node, arrival)
        else:
            self._told(node, evaluator)
            self._through(node, arrival, evaluator)

    def _told(self, node: Node, evaluator: Evaluator) -> None:
        """Read the paths of the fields that are nothing but a path."""
        if not node.jsonata:
            for name, text in node.state.items():
                if name.endswith("Path") and name not in ("InputPath", "OutputPath", "ResultPath"):
                    evaluator.expression(text)

    def _choose(
        self,
        node: Node,
        arrival: Arrival,
        evaluator: Evaluator,
        seen: Callable[[str, Presence], None],
    ) -> None:
        arrival = replace(arrival, shape=evaluator.shape)
        ways = [arrival]
        for rule in map(mapping, sequence(node.state.get("Choices"))):
            target = self.graph.target(node, rule.get("Next"))
            if node.jsonata:
                given = replace(arrival, shape=LOST) if "Output" in rule else arrival
                self.arrive(target, given)
                continue

            def reader(way: Arrival) -> Evaluator:
                return Evaluator(node.path, way, seen)

            for way in ways:
                for held in assume(rule, True, way, reader):
                    self.arrive(target, self._out(node, held))
            ways = [left for way in ways for left in assume(rule, False, way, reader)]
        default = self.graph.target(node, node.state.get("Default"))
        for way in ways:
            if default is None and not node.jsonata:
                self._lost(node)
            self.arrive(default, self._out(node, way))

    def _through(self, node: Node, arrival: Arrival, evaluator: Evaluator) -> None:
        """Follow a state that is neither a Choice nor a Fail."""
        raw = arrival.shape
        for catcher in catchers(node.state):
            error: Shape = Object({"Error": Slot(LOST), "Cause": Slot(LOST)})
            shape = placed(raw, catcher.get("ResultPath", "$"), error)
            if node.jsonata:
                shape = LOST if "Output" in catcher else error
            self.arrive(self.graph.target(node, catcher.get("Next")), replace(arrival, shape=shape))
        result = self._result(node, arrival, evaluator)
        if result is None or evaluator.missing:
            return
        if node.jsonata:
            shape = LOST if "Output" in node.state else result
        elif node.kind in ("Wait", "Succeed"):
            shape = evaluator.shape
        else:
            if "ResultSelector" in node.state:
                selector = Evaluator(node.path, replace(arrival, shape=result), unseen)
                result = selector.template(node.state["ResultSelector"])
            shape = placed(raw, node.state.get("ResultPath", "$"), result)
        self._leave(node, self._out(node, replace(arrival, shape=shape)))

    def _out(self, node: Node, arrival: Arrival) -> Arrival:
        """Apply OutputPath."""
        if node.jsonata or "OutputPath" not in node.state:
            return arrival
        path = node.state["OutputPath"]
        if path is None:
            return replace(arrival, shape=Object())

        def seen(text: str, presence: Presence) -> None:
            self.reads.setdefault((node.path, text), {}).setdefault(presence, arrival.via)

        return replace(arrival, shape=Evaluator(node.path, arrival, seen).expression(path))

    def _leave(self, node: Node, arrival: Arrival) -> None:
        """Take a way out of a state: on to the next, or out of the machine that it is in."""
        if not node.ends:
            self.arrive(self.graph.target(node, node.state.get("Next")), arrival)
        elif node.outer is not None:
            shape = applied(arrival.shape, arrival.refined)
            old = self.ends.get(node.prefix)
            new = shape if old is None else join(old, shape, f"{node.prefix}|out")
            if old is None or new != old:
                self.ends[node.prefix] = new
                self._ended(self.graph.nodes[node.outer], arrival.via)

    def _ended(self, outer: Node, _via: tuple[str, ...]) -> None:
        """A machine inside of a state ends in one more way: follow the state again."""
        for key in self.arrivals.get(outer.path, {}):
            self._await(outer.path, key)

    def _lost(self, node: Node) -> None:
        """Take note that no rule of a Choice may hold."""

    def _failed(self, node: Node, arrival: Arrival) -> None:
        """Take note of a Fail state; the Catch of what is around it is followed anyway."""

    def _result(self, node: Node, arrival: Arrival, evaluator: Evaluator) -> Shape | None:
        """Return a state's result; None as long as no way leads out of what is inside it."""
        state = node.state
        field = "Arguments" if node.jsonata else "Parameters"
        if node.kind == "Pass":
            if "Result" in state and not node.jsonata:
                return literal(state["Result"])
            return evaluator.template(state[field]) if field in state else evaluator.shape
        if node.kind in ("Parallel", "Map"):
            return self._inside(node, arrival, evaluator)
        if node.kind == "Task":
            if field in state:
                evaluator.template(state[field])
            return answer(node)
        return evaluator.shape

    def _inside(self, node: Node, arrival: Arrival, evaluator: Evaluator) -> Shape | None:
        """Follow the machines in a Parallel or Map; return their results, None if there is none."""
        state = node.state
        given, item = evaluator.shape, arrival.item
        field = "Arguments" if node.jsonata else "Parameters"
        if node.kind == "Map":
            item = item_of(node, evaluator)
            field = "ItemSelector" if "ItemSelector" in state else field
            evaluator.arrival = replace(arrival, item=item)
            given = item
        if field in state:
            given = evaluator.template(state[field])
        if "ItemBatcher" in state:
            given = LOST
        for prefix in self.graph.inner[node.path]:
            inner = Arrival(given, arrival.refined, item, arrival.via)
            self.arrive(self.graph.starts[prefix], inner)
        if node.kind == "Map":
            result = Opaque(f"{node.path}|result", frozenset({Origin.RESULT}))
            written = "ResultWriter" in state
            return Object(rest=result, pascal=True) if written else Array((), result)
        outs = [self.ends.get(prefix) for prefix in self.graph.inner[node.path]]
        known = [out for out in outs if out is not None]
        return Array(tuple(known)) if len(known) == len(outs) else None


def unseen(_text: str, _presence: Presence) -> None:
    """Ignore a read that was told already."""
