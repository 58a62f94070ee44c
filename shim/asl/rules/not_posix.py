"""ASL502 not-posix: a command that the sh of Debian and Ubuntu refuses.

Why: SSM runs the lines with `sh`, which is dash on Debian and Ubuntu: `set -o pipefail` ends the
script with exit 2, an array is a syntax error (I24).

Fix: make `#!/bin/bash` the first line, or write it for any sh.

Silent: the first line names an interpreter or is not known; what another shell reads (`bash -c
'…'`, a heredoc) is not looked at.

Bad:
    StartAt: Send
    States:
      Send:
        Type: Task
        Resource: arn:aws:states:::aws-sdk:ssm:sendCommand
        Parameters:
          InstanceIds: [i-0123456789abcdef0]
          DocumentName: AWS-RunShellScript
          Parameters:
            commands:
              - set -o pipefail
              - make backtest
        End: true

Good:
    StartAt: Send
    States:
      Send:
        Type: Task
        Resource: arn:aws:states:::aws-sdk:ssm:sendCommand
        Parameters:
          InstanceIds: [i-0123456789abcdef0]
          DocumentName: AWS-RunShellScript
          Parameters:
            commands:
              - "#!/bin/bash"
              - set -o pipefail
              - make backtest
        End: true
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from shim.asl.rules import Hit
from shim.asl.script import plain
from shim.asl.subject import Subject

if TYPE_CHECKING:
    from tree_sitter import Node


TYPES = {
    "array": "an array",
    "subscript": "an element of an array",
    "process_substitution": "a process substitution",
    "herestring_redirect": "a here-string",
    "ansi_c_string": "a string with $'…'",
}


def check(subject: Subject) -> Iterator[Hit]:
    """Return a hit for the first such thing of each kind in a state."""
    for sender in subject.senders:
        script = sender.script
        if script.interpreter not in ("sh", "dash") or not script.readable:
            continue
        seen: set[str] = set()
        for node in script.nodes:
            kind = _kind(node)
            if kind and kind not in seen:
                seen.add(kind)
                text = script.shown((node.text or b"").decode())
                yield Hit(sender.path, text, f"{kind} is not known to every sh, and SSM runs sh")


def _kind(node: Node) -> str:
    if node.type in TYPES:
        return TYPES[node.type]
    if node.type == "test_command" and (node.text or b"").startswith(b"[["):
        return "a test with [["
    if node.type == "function_definition" and (node.text or b"").startswith(b"function"):
        return "the word function"
    if node.type == "command":
        words = [plain(child) for child in node.named_children]
        if words[:1] == ["set"] and "pipefail" in words:
            return "pipefail"
        if words[:1] == ["source"]:
            return "the word source"
    return ""
