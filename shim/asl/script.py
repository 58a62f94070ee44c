"""What a shell script does, as far as its text shows: commands, assignments, pipes, options.

tree-sitter-bash parses. By hand is what no parser of shells has: which words are the launch of a
stage, and which words were holes that only a run fills. Text within quotes that another shell
reads (`su -c "…"`, a heredoc) is not followed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

from shim.asl.render import Line
from shim.asl.values import Unknown

if TYPE_CHECKING:
    from tree_sitter import Node, Parser

LAUNCHER = re.compile(r"(^|[\s/'\"])spot_[\w-]+\.sh\b")
PROGRAM = re.compile(r"[\w@%+.,/~-]*[\w-]\.(sh|py)")
RUNNERS = {
    *(".", "source", "exec", "env", "command", "time", "timeout", "nohup", "nice", "ionice"),
    *("bash", "sh", "dash", "python", "python3", "sudo", "su", "runuser", "stdbuf", "setsid"),
}
DATE = re.compile(r"run_?date", re.IGNORECASE)
HOLE = re.compile(r"hole\d+hole")
SUBSHELLS = ("command_substitution", "process_substitution")
TESTS = ("if_statement", "elif_clause", "while_statement", "negated_command")
TEST_ENDS = ("then", "do")


@dataclass(frozen=True)
class Command:
    """A simple command: its words without their quotes, and where it stands in the script."""

    words: tuple[str, ...]
    text: str
    start: int
    end: int
    inside: bool
    """Whether it is in a substitution, where its status is not the script's."""

    @property
    def name(self) -> str:
        """The program's name, without its folder."""
        return self.words[0].rpartition("/")[2] if self.words else ""

    @property
    def program(self) -> str:
        """The script or module that it runs itself or through `bash`, `timeout` …; else empty."""
        if self.name not in RUNNERS:
            return self.words[0] if self.words and PROGRAM.fullmatch(self.words[0]) else ""
        for before, word in zip(("", *self.words), self.words, strict=False):
            if before == "-m":
                return f"-m {word}"
            if PROGRAM.fullmatch(word):
                return word
        return ""

    @property
    def launches(self) -> bool:
        """Whether it runs a stage's launcher: `spot_….sh` or `python -m shim`."""
        if self.name in RUNNERS:
            return LAUNCHER.search(self.text) is not None or self.program == "-m shim"
        return bool(self.words) and LAUNCHER.search(self.words[0]) is not None


@dataclass(frozen=True)
class Assignment:
    """A variable that is set. `exported`: so that programs see it."""

    name: str
    value: Node | None
    text: str
    start: int
    exported: bool


class Script:
    """The script that SSM makes of a state's lines; a word stands for each hole."""

    def __init__(self, lines: Sequence[Line]) -> None:
        self.holes: list[str] = []
        texts = []
        self.blanks: list[int] = []
        """Where a line stands of which nothing is known."""
        position = 0
        for line in lines:
            text = "".join(self._word(part) for part in line.parts)
            if HOLE.fullmatch(text.strip()):
                self.blanks.append(position)
            texts.append(text)
            position += len(text.encode()) + 1
        self.text = "".join(f"{text}\n" for text in texts)

    def _word(self, part: str | Unknown) -> str:
        if isinstance(part, str):
            return part
        self.holes.append(part.label)
        return f"hole{len(self.holes) - 1}hole"

    def shown(self, text: str) -> str:
        """Return a piece of the script with its holes as `render` shows them."""
        return HOLE.sub(lambda match: f"<{self.holes[int(match[0][4:-4])]}>", text)

    @property
    def interpreter(self) -> str:
        """The program that runs the script: after `#!`, else `sh`; empty if that is not known."""
        if self.blanks[:1] == [0]:
            return ""
        if not self.text.startswith("#!"):
            return "sh"
        words = self.text[2:].partition("\n")[0].split()
        words = words[1:] if words and words[0].endswith("/env") else words
        return words[0].rpartition("/")[2] if words else ""

    @cached_property
    def root(self) -> Node:
        """The tree."""
        return _parser().parse(self.text.encode()).root_node

    @property
    def readable(self) -> bool:
        """Whether all of it was understood; else a rule has nothing to say."""
        return not self.root.has_error

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        """Every node that has a name, in the order of the text."""
        return tuple(node for node in _walk(self.root) if node.is_named)

    @cached_property
    def commands(self) -> tuple[Command, ...]:
        """The simple commands, in order."""
        found = []
        for node in self.nodes:
            if node.type == "command":
                parts = [c for c in node.children if c.type != "variable_assignment" and c.is_named]
                words = tuple(map(plain, parts))
                inside = any(n.type in SUBSHELLS for n in ancestors(node))
                found.append(Command(words, _text(node), node.start_byte, node.end_byte, inside))
        return tuple(found)

    @cached_property
    def assignments(self) -> tuple[Assignment, ...]:
        """The variables that are set, in order, with `export NAME` counted as well."""
        later = self._exported_later()
        found = []
        for node in self.nodes:
            if node.type == "variable_assignment" and node.parent is not None:
                name = node.child_by_field_name("name")
                around = node.parent
                exported = (
                    around.type == "command"
                    or (around.type == "declaration_command" and _exports(around))
                    or self._set_a(node.start_byte)
                    or (name is not None and _text(name) in later)
                )
                value = node.child_by_field_name("value")
                text = _text(around if around.type == "declaration_command" else node)
                found.append(
                    Assignment(_text(name) if name else "", value, text, node.start_byte, exported)
                )
        return tuple(found)

    def _exported_later(self) -> set[str]:
        return {
            _text(child)
            for node in self.nodes
            if node.type == "declaration_command" and _exports(node)
            for child in node.children
            if child.type == "variable_name"
        }

    def _set_a(self, position: int) -> bool:
        """Return whether `set -a` holds at a place."""
        holds = False
        for command in self.commands:
            if command.start < position and command.words[:1] == ("set",):
                for word in command.words[1:]:
                    if re.fullmatch(r"[-+]\w*a\w*", word):
                        holds = word.startswith("-")
        return holds

    @cached_property
    def unknown(self) -> tuple[int, ...]:
        """Where a line stands that may be any command; in a heredoc it is none."""
        texts = [(n.start_byte, n.end_byte) for n in self.nodes if n.type == "heredoc_body"]
        return tuple(b for b in self.blanks if not any(start <= b < end for start, end in texts))

    @cached_property
    def launches(self) -> tuple[Command, ...]:
        """The commands that start a stage, in order."""
        return tuple(c for c in self.commands if not c.inside and c.launches)

    def names_date(self, start: int, end: int) -> bool:
        """Return whether the date is named between two places, or nobody knows what is there."""
        piece = self.shown(self.text.encode()[start:end].decode(errors="replace"))
        if any(start <= blank < end for blank in self.unknown):
            return True
        return DATE.search(piece) is not None or re.search(r"--date\b", piece) is not None


def plain(node: Node) -> str:
    """Return a word as the program gets it, where it holds no expansion; else as written."""
    text = _text(node)
    if node.type == "raw_string":
        return text[1:-1]
    if node.type == "string" and all(c.type in ('"', "string_content") for c in node.children):
        return text[1:-1]
    if node.type == "command_name" and node.child_count == 1:
        return plain(node.children[0])
    if node.type == "concatenation":
        return "".join(map(plain, node.children))
    return text


def ancestors(node: Node) -> Iterator[Node]:
    """Return the nodes around a node, innermost first."""
    around = node.parent
    while around is not None:
        yield around
        around = around.parent


def judged(node: Node) -> bool:
    """Return whether a command's status is looked at: in a condition, `!`, `&&` or `||`."""
    below = node
    for around in ancestors(node):
        if around.type in ("list", "negated_command", *SUBSHELLS):
            return True
        if around.type in TESTS and any(
            c.type in TEST_ENDS and below.end_byte <= c.start_byte for c in around.children
        ):
            return True
        if around.type == "while_statement" and below.type != "do_group":
            return True
        below = around
    return False


def _walk(node: Node) -> Iterator[Node]:
    stack = [node]
    while stack:
        here = stack.pop()
        yield here
        stack += reversed(here.children)


def _exports(node: Node) -> bool:
    words = _text(node).split()
    return words[0] == "export" or (words[0] in ("declare", "typeset") and "x" in words[1])


def _text(node: Node) -> str:
    return (node.text or b"").decode()


@lru_cache(maxsize=1)
def _parser() -> Parser:
    import tree_sitter_bash  # only scripts need it
    from tree_sitter import Language, Parser

    return Parser(Language(tree_sitter_bash.language()))
