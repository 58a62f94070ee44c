"""What reaches each state as its input, followed from the execution's input as far as it goes.

Followed: Pass, Wait, Choice, Succeed, Parallel and Map; InputPath, Parameters, ItemSelector,
Result, ResultSelector, ResultPath, OutputPath, Catch; in JSONata states Output, whose expressions
stay open. Not followed: a Task's result and an error's text (Unknown, labelled with the state's
path), a Map's result, variables (Assign). Every Task may fail, and one Map item stands for all. A
state that several ways lead to gets what they have in common; where they differ its input is
Unknown there, labelled `<State.input.field>`. A Choice is decided when its input decides it.
Source: states-language.net, "Input and Output Processing with JSONPath".
"""

from __future__ import annotations

from collections import deque
from typing import Any

from shim.asl.choice import decide
from shim.asl.template import Filler
from shim.asl.values import Reading, Unknown, Value, join
from shim.asl.walk import State, language, machines, mapping, sequence

WIDEN = 20
"""How often a state's input may lose something before it is given up as a whole (a loop)."""


class Flow:
    """The inputs of a definition's states, and what would fail on the way, after `run`."""

    def __init__(self, definition: State, context: dict[str, Value], reading: Reading) -> None:
        self.definition = definition
        self.context = context
        self.reading = reading
        self.decides = True
        self.inputs: dict[str, Value] = {}
        self.items: dict[str, Value] = {}
        self.problems: dict[str, None] = {}
        self._visits: dict[str, int] = {}
        self._ends: dict[str, dict[str, Value]] = {}
        self._item: Value = {"Index": Unknown("$$.Map.Item.Index")}

    @classmethod
    def run(
        cls,
        definition: State,
        context: dict[str, Value],
        reading: Reading,
        data: Value,
        decides: bool = True,
    ) -> Flow:
        """Follow a definition from its start; without `decides` every way of a Choice is taken."""
        flow = cls(definition, context, reading)
        flow.decides = decides
        flow._machine(definition, "", data)
        return flow

    def filler(self, path: str, name: str, state: State, data: Value) -> Filler:
        """Return what fills the templates of a state: its input, and the context object there."""
        context: dict[str, Value] = {
            **self.context,
            "State": {**_object(self.context.get("State")), "Name": name},
            "Map": {"Item": self.items.get(path, self._item)},
        }
        jsonata = language(self.definition, state) == "JSONata"
        return Filler(data, context, self.reading, jsonata)

    def _machine(self, machine: State, prefix: str, data: Value) -> Value:
        """Follow one machine; return what its end states give out."""
        states = mapping(machine.get("States"))
        queue: deque[str] = deque()
        ends = self._ends.setdefault(prefix, {})

        def arrive(name: object, value: Value) -> None:
            if not isinstance(name, str) or not isinstance(states.get(name), dict):
                self.problems[f"{prefix or 'the definition'}: no state is named {name!r}"] = None
                return
            path = f"{prefix}{name}"
            new = value
            if path in self.inputs:
                old = self.inputs[path]
                new = join(old, value, f"{path}.input")
                if new is not old:
                    self._visits[path] = self._visits.get(path, 0) + 1
                    if self._visits[path] >= WIDEN:
                        new = Unknown(f"{path}.input")
                elif self.items[path] is self._item:
                    return
            self.inputs[path] = new
            self.items[path] = self._item
            if name not in queue:
                queue.append(name)

        arrive(machine.get("StartAt"), data)
        while queue:
            name = queue.popleft()
            path, state = f"{prefix}{name}", mapping(states[name])
            for target, value in self._step(path, name, state, self.inputs[path]):
                if target is None:
                    ends[name] = value
                else:
                    arrive(target, value)
        outputs = list(ends.values())
        if not outputs:
            return Unknown(f"{prefix}output")
        result = outputs[0]
        for other in outputs[1:]:
            result = join(result, other, f"{prefix}output")
        return result

    def _step(
        self, path: str, name: str, state: State, raw: Value
    ) -> list[tuple[object | None, Value]]:
        """Return where a state leads and with what; None is the machine's end."""
        filler = self.filler(path, name, state, raw)
        if filler.jsonata:
            leads = self._jsonata(filler, path, state, raw)
        else:
            leads = self._jsonpath(filler, path, state, raw)
        self.problems.update(filler.problems)
        return leads

    def _jsonpath(
        self, filler: Filler, path: str, state: State, raw: Value
    ) -> list[tuple[object | None, Value]]:
        kind = state.get("Type")
        data = filler.selected(state.get("InputPath", "$"), raw, f"{path}.InputPath")
        filler.data = data
        if kind in ("Choice", "Wait", "Succeed"):
            out = filler.selected(state.get("OutputPath", "$"), data, f"{path}.OutputPath")
            return self._onward(filler, path, state, data, out)
        if kind == "Fail":
            return []
        if kind == "Pass":
            result = self._passed(filler, path, state, data)
        else:
            result = self._result(filler, path, state, data)
            if "ResultSelector" in state:
                filler.data = result
                result = filler.fill(state["ResultSelector"], f"{path}.ResultSelector")
        out = filler.placed(state.get("ResultPath", "$"), raw, result, f"{path}.ResultPath")
        out = filler.selected(state.get("OutputPath", "$"), out, f"{path}.OutputPath")
        leads = self._onward(filler, path, state, data, out)
        for catcher in map(mapping, sequence(state.get("Catch"))):
            error: Value = {
                "Error": Unknown(f"{path}.Error"),
                "Cause": Unknown(f"{path}.Cause"),
            }
            place = catcher.get("ResultPath", "$")
            caught = filler.placed(place, raw, error, f"{path}.Catch.ResultPath")
            leads.append((catcher.get("Next"), caught))
        return leads

    def _passed(self, filler: Filler, path: str, state: State, data: Value) -> Value:
        if "Result" in state:
            result: Value = state["Result"]
            return result
        if "Parameters" in state:
            return filler.fill(state["Parameters"], f"{path}.Parameters")
        return data

    def _result(self, filler: Filler, path: str, state: State, data: Value) -> Value:
        """Return the result of a Task, Parallel or Map state, having followed what is inside."""
        field = "Arguments" if filler.jsonata else "Parameters"
        if state.get("Type") == "Parallel":
            given = filler.fill(state[field], f"{path}.{field}") if field in state else data
            return [
                self._machine(machine, prefix, given) for prefix, machine in machines(path, state)
            ]
        if state.get("Type") == "Map":
            outer = self._item
            item = self._any_item(filler, path, state)
            self._item = {"Index": Unknown(f"{path}.index"), "Value": item}
            filler.context = {**_object(filler.context), "Map": {"Item": self._item}}
            selector = "ItemSelector" if "ItemSelector" in state else field
            given = (
                filler.fill(state[selector], f"{path}.{selector}") if selector in state else item
            )
            for prefix, machine in machines(path, state):
                self._machine(machine, prefix, given)
            self._item = outer
        return Unknown(path)

    def _any_item(self, filler: Filler, path: str, state: State) -> Value:
        """Return what the items of a Map have in common."""
        items: Value = Unknown(f"{path}.items")
        if not filler.jsonata and "ItemReader" not in state:
            where = f"{path}.ItemsPath"
            items = filler.selected(state.get("ItemsPath", "$"), filler.data, where)
        if not isinstance(items, list) or not items:
            return Unknown(f"{path}.item")
        common = items[0]
        for item in items[1:]:
            common = join(common, item, f"{path}.item")
        return common

    def _onward(
        self, filler: Filler, path: str, state: State, data: Value, out: Value
    ) -> list[tuple[object | None, Value]]:
        """Return where a state goes when nothing fails in it."""
        if state.get("Type") == "Succeed" or state.get("End") is True:
            return [(None, out)]
        if state.get("Type") != "Choice":
            return [(state.get("Next"), out)]
        leads: list[tuple[object | None, Value]] = []
        for rule in map(mapping, sequence(state.get("Choices"))):
            decided = self.decides and not filler.jsonata
            verdict = decide(rule, data, filler.context) if decided else None
            if verdict is not False:
                given = filler.fill(rule["Output"], path) if "Output" in rule else out
                leads.append((rule.get("Next"), given if filler.jsonata else out))
            if verdict:
                return leads
        if "Default" in state:
            leads.append((state["Default"], out))
        return leads

    def _jsonata(
        self, filler: Filler, path: str, state: State, raw: Value
    ) -> list[tuple[object | None, Value]]:
        kind = state.get("Type")
        if kind == "Fail":
            return []
        result = raw
        if kind in ("Task", "Parallel", "Map"):
            result = self._result(filler, path, state, raw)
        if "Output" in state:
            result = filler.fill(state["Output"], f"{path}.Output")
        leads = self._onward(filler, path, state, raw, result)
        for catcher in map(mapping, sequence(state.get("Catch"))):
            error: Any = filler.fill(catcher["Output"], path) if "Output" in catcher else None
            leads.append((catcher.get("Next"), error or Unknown(f"{path}.error")))
        return leads


def _object(value: Value) -> dict[str, Value]:
    return value if isinstance(value, dict) else {}
