"""Which fields of its input a state, or what follows it, may still read.

Only these tell two ways to a state apart: what nobody reads any more may differ.
"""

from __future__ import annotations

import json
import re
from collections import deque

from shim.asl.graph import Graph, Node, catchers

READS = re.compile(r"(?<!\$)\$(?:\.|\[')(\w+)")
INNER = ("Branches", "ItemProcessor", "Iterator", "ResultPath", "Comment")


def live_fields(graph: Graph) -> dict[str, frozenset[str]]:
    """Return for each state the fields of an input that it, or what follows it, may read."""
    own: dict[str, frozenset[str]] = {}
    for path, node in graph.nodes.items():
        shown = {k: v for k, v in node.state.items() if k not in INNER}
        own[path] = frozenset(READS.findall(json.dumps(shown, default=str)))
    live = dict(own)
    before: dict[str, list[str]] = {}
    for path, others in graph.successors.items():
        for other in others:
            before.setdefault(other, []).append(path)
    queue = deque(reversed(graph.nodes))
    while queue:
        path = queue.popleft()
        after = frozenset().union(*(live[p] for p in graph.successors[path]))
        new = own[path] | (after - _written(graph.nodes[path]))
        if new != live[path]:
            live[path] = new
            queue += before.get(path, [])
    return live


def _written(node: Node) -> frozenset[str]:
    """Return the field that a state sets on every way out of it."""
    places = {str(node.state.get("ResultPath", "$"))}
    places |= {str(catcher.get("ResultPath", "$")) for catcher in catchers(node.state)}
    match = re.fullmatch(r"\$\.(\w+)", places.pop()) if len(places) == 1 else None
    return frozenset({match[1]}) if match else frozenset()
