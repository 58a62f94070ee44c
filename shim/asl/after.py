"""What follows one state, when one field of its result has a value, or when it fails."""

from __future__ import annotations

import json
from dataclasses import replace

from shim.asl.arrival import LOST, Arrival, placed
from shim.asl.evaluate import Evaluator, answer
from shim.asl.graph import Node, catchers
from shim.asl.shape import Array, Known, Object, Shape, Slot
from shim.asl.trace import Trace, unseen


class After(Trace):
    """What follows a Task when one field of its result has a value, or when it fails.

    `reached` are the states, each with the way; a state that sends a command, and the Task itself,
    are reached and not followed further.
    """

    def __init__(self, base: Trace, path: str) -> None:
        super().__init__(base.graph, base.live)
        self.base = base
        self.path = path
        self.reached: dict[str, tuple[str, ...]] = {}
        self.stuck = ""
        """A Choice of which no rule holds then."""

    def follow_value(self, field: str, value: str) -> After:
        """Follow from the Task, on the way that nothing failed."""
        node = self.graph.nodes[self.path]
        for arrival in self.base.at(self.path):
            refined = {**arrival.refined, f"{self.path}|result.{field}": Known(value)}
            result = answer(node)
            if "ResultSelector" in node.state:
                given = Arrival(result, refined)
                result = Evaluator(node.path, given, unseen).template(node.state["ResultSelector"])
            shape = placed(arrival.shape, node.state.get("ResultPath", "$"), result)
            self._leave(node, self._out(node, Arrival(shape, refined, arrival.item, (self.path,))))
        self._work()
        return self

    def arrive(self, path: str | None, arrival: Arrival) -> None:
        """Note a state as reached; follow it unless it stops the way."""
        if path is None or path not in self.graph.nodes:
            return
        self.reached.setdefault(path, (*arrival.via, path))
        if path != self.path and not self.graph.nodes[path].sends:
            super().arrive(path, arrival)

    def follow_errors(self) -> After:
        """Follow from the Task, on the ways of its Catch and of those around it."""
        node = self.graph.nodes[self.path]
        for arrival in self.base.at(self.path):
            way = replace(arrival, via=(self.path,))
            self._caught(node, way)
            if not catchers(node.state):
                self._failed(node, way)
        self._work()
        return self

    def _caught(self, node: Node, arrival: Arrival) -> None:
        error: Shape = Object({"Error": Slot(LOST), "Cause": Slot(LOST)})
        for catcher in catchers(node.state):
            shape = placed(arrival.shape, catcher.get("ResultPath", "$"), error)
            target = self.graph.target(node, catcher.get("Next"))
            self.arrive(target, replace(arrival, shape=shape))

    def _lost(self, node: Node) -> None:
        if "status" in json.dumps(node.state, default=str).lower():
            self.stuck = node.path

    def _ended(self, outer: Node, via: tuple[str, ...]) -> None:
        for arrival in self.base.at(outer.path):
            outs = [
                self.ends.get(prefix, self.base.ends.get(prefix, LOST))
                for prefix in self.graph.inner[outer.path]
            ]
            result: Shape = Array(tuple(outs)) if outer.kind == "Parallel" else Array((), LOST)
            if "ResultSelector" in outer.state:
                result = LOST
            shape = placed(arrival.shape, outer.state.get("ResultPath", "$"), result)
            self._leave(outer, self._out(outer, replace(arrival, shape=shape, via=via)))

    def _failed(self, node: Node, arrival: Arrival) -> None:
        outer = node.outer
        while outer is not None:
            around = self.graph.nodes[outer]
            given = [replace(way, via=arrival.via) for way in self.base.at(outer)]
            for way in given:
                self._caught(around, way)
            if catchers(around.state):
                return
            outer = around.outer
