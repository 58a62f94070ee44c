"""Who may import whom, who touches the world, and who reads the clock: held by reading the code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.entry import ROOT

# The rooms of the shim, as DESIGN has them. A module imports only what stands after it here; a
# package is one room, which arranges its own files.
LEVELS: dict[str, tuple[str, ...]] = {
    "entry": (
        *("__main__", "cli", "groups", "spot_commands", "status_command"),
        *("completion", "asking", "options", "printing", "show", "installation"),
    ),
    "doing": (
        "status",
        *("spot", "instance", "spot_preflight", "follow", "reap", "fleet", "closing", "guest"),
        *("stage", "lost", "outcome", "preflight", "capture", "asl", "meter", "process", "ended"),
        *("detach", "leftovers"),
    ),
    "keeping": (
        *("kept", "takeback", "artifacts", "private", "needs", "ec2", "launch", "masking"),
        *("record", "commit", "liveness", "environment"),
        *("bundle", "checkpoint", "endure", "imds", "reclaim", "recorded", "silence"),
        *("redact", "secret_values", "secret_forms", "secret_search", "secret_files"),
        *("ship", "logfile", "tidy", "usage", "sinks", "s3", "upload", "aws", "aws_errors"),
        *("directory", "locking", "folders", "disk", "store"),
    ),
    "knowing": (
        *("plan", "request", "typed", "spot_table", "pipeline", "secret_names"),
        *("reader", "fields", "rundate", "address"),
        *("regular", "errors", "clock", "__init__"),
    ),
}
ORDER = [module for modules in LEVELS.values() for module in modules]
# open_store() imports the store that an address asks for, and no other, when it is called.
DOORS = {("store", "s3"), ("store", "directory")}
# All that «knowing» may import beside the shim, and how it may ask the machine: the table is read.
PURE = {
    *("__future__", "_typeshed", "collections", "dataclasses", "datetime", "dateutil", "difflib"),
    *("fnmatch", "graphlib", "json", "pathlib", "posixpath", "re", "tomllib", "typing"),
}
ASKING = {"pipeline": {"read_bytes", "absolute", "resolve"}, "regular": {"open"}}
FILES_OF = {"regular": {"errno", "os", "stat"}}  # and what the reading of a file imports
IO = {
    *(
        "open",
        "read_bytes",
        "read_text",
        "write_bytes",
        "write_text",
        "exists",
        "is_file",
        "is_dir",
    ),
    *(
        "stat",
        "lstat",
        "iterdir",
        "glob",
        "rglob",
        "mkdir",
        "unlink",
        "touch",
        "rename",
        "replace_file",
    ),
    *("resolve", "absolute", "cwd", "home", "expanduser", "print", "input", "exec", "eval"),
}
CLOCK = {  # how the wall clock is read; with so many arguments it is not
    **dict.fromkeys(("datetime.datetime.now", "datetime.datetime.today"), 99),
    **dict.fromkeys(("datetime.datetime.utcnow", "datetime.date.today"), 99),
    **dict.fromkeys(("time.time", "time.time_ns", "time.clock_gettime"), 99),
    **dict.fromkeys(("time.clock_gettime_ns", "uuid.uuid1", "email.utils.localtime"), 99),
    **dict.fromkeys(("time.localtime", "time.gmtime", "time.ctime", "time.asctime"), 1),
    "email.utils.formatdate": 1,
    "time.strftime": 2,
}
MODULES = sorted((ROOT / "shim").rglob("*.py"))
FILES = {path.name for path in (ROOT / "shim").glob("*.py")}
PYTHON = [*MODULES, *sorted((ROOT / "examples").rglob("*.py"))]
SHELL = [ROOT / "spot_backtest.sh", *sorted((ROOT / "infrastructure").rglob("*.sh"))]
# The Python in bootstrap.sh signs requests and arms a deadline, both of which need the time; it
# names nothing by it (the date of its log is the record's).
HEREDOC = re.compile(r"<<'PYTHON'\n.*?\nPYTHON\n", re.DOTALL)
SHELL_CLOCK = re.compile(
    r"(?:^|[;&|({`!]|\b(?:then|do|else|if|while|until|command|exec|env)\s)\s*"
    r"(?:\w+=\S*\s+)*(?:/\S*/)?date(?=$|[\s;&|)`'\"])"
    r"|%(?:\([^)]*\))T|\bEPOCH(?:SECONDS|REALTIME)\b|\b(?:strftime|systime)\b"
)


def room(path: Path) -> str:
    """Return the module, or the package, that a file of the shim belongs to."""
    return path.relative_to(ROOT / "shim").parts[0].removesuffix(".py")


def imported(source: str) -> Iterator[str]:
    """Return every module that a source imports, wherever it does; ours as `shim.x`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module == "shim":
            yield from (
                f"shim.{name.name}" if name.name in ORDER else "shim.__init__"
                for name in node.names
            )
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "an import names its module whole"
            yield node.module or ""


def upward(module: str, source: str) -> list[str]:
    """Return what a module imports and must not, for it does not stand after it."""
    parts = [name.split(".") for name in imported(source)]
    ours = {(*name, "__init__")[1] for name in parts if name[0] == "shim"}
    if f"{module}.py" not in FILES:
        ours.discard(module)  # a package's own
    return [
        other
        for other in sorted(ours)
        if ORDER.index(other) <= ORDER.index(module) and (module, other) not in DOORS
    ]


def impure(module: str, source: str) -> list[str]:
    """Return what a module of «knowing» imports or calls that touches the world."""
    tree = ast.parse(source)
    pure = {*PURE, "shim", *FILES_OF.get(module, ())}
    found = [name for name in imported(source) if name.partition(".")[0] not in pure]
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            base, _, name = ast.unparse(node.func).rpartition(".")
            if base not in ORDER and name in IO - ASKING.get(module, set()):
                found.append(f"{name}()")
    return found


def clock_reads(source: str) -> list[str]:
    """Return where Python code reads the wall clock, called or passed on, under any name."""
    tree = ast.parse(source)
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for name in node.names:  # `import a.b` binds a
                first = name.name.partition(".")[0]
                names[name.asname or first] = name.name if name.asname else first
        elif isinstance(node, ast.ImportFrom):
            names |= {n.asname or n.name: f"{node.module}.{n.name}" for n in node.names}

    def dotted(node: ast.AST) -> str:
        if isinstance(node, ast.Attribute):
            return f"{dotted(node.value)}.{node.attr}"
        return names.get(node.id, "") if isinstance(node, ast.Name) else ""

    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    given = {id(node.func): len(node.args) + len(node.keywords) for node in calls}
    return [
        f"line {node.lineno}: {dotted(node)}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute | ast.Name)
        and given.get(id(node), 0) < CLOCK.get(dotted(node), 0)
    ]


def shell_clock_reads(source: str) -> list[str]:
    """Return the lines of a shell script that read the wall clock; comments and help do not."""
    lines = (re.sub(r"(^|\s)#.*", "", line) for line in source.splitlines())
    return [line.strip() for line in lines if SHELL_CLOCK.search(line)]


def test_every_module_has_a_level() -> None:
    """A module that is not in the table above has no place yet."""
    assert {room(path) for path in MODULES} - set(ORDER) == set()
    assert len(set(ORDER)) == len(ORDER)


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_imports_point_down_only(path: Path) -> None:
    """So nothing is imported in a circle, and planning needs no store."""
    assert upward(room(path), path.read_text()) == []


def test_an_import_that_points_up_is_seen() -> None:
    """In each form, at the top of a module or inside a function."""
    for line in ("import shim.cli", "from shim import cli", "from shim.cli import main"):
        assert upward("plan", f"def f():\n    {line}") == ["cli"]
    assert upward("plan", "from shim import plan") == ["plan"]
    assert upward("cli", "from shim import plan, __version__") == []
    assert upward("asl", "from shim.asl.values import Value\nimport shim") == []
    assert upward("plan", "from shim.asl.values import Value") == ["asl"]


def test_the_readme_shows_every_room() -> None:
    """Its picture of the code is the one that the tests hold."""
    text = (ROOT / "README.md").read_text()
    rows = re.findall(r"^\| (the command line|doing|keeping|knowing) \| (.*) \|$", text, re.M)
    shown = {name: set(re.findall(r"`(\w+)/?`", row)) for name, row in rows}
    for level, name in (("entry", "the command line"), *((n, n) for n in [*LEVELS][1:])):
        assert shown[name] == set(LEVELS[level]) - {"__main__", "__init__"}


@pytest.mark.parametrize("module", LEVELS["knowing"])
def test_what_knows_touches_nothing(module: str) -> None:
    """No environment, no file but the table, no socket, no process, no clock but its own module."""
    assert impure(module, (ROOT / "shim" / f"{module}.py").read_text()) == []


def test_what_touches_the_world_is_seen() -> None:
    """An import and a call, outside of the module that may."""
    assert impure("plan", "import os, socket\nfrom subprocess import run") == [
        *("os", "socket", "subprocess")
    ]
    assert impure("plan", "from pathlib import Path\nPath('x').read_bytes(); open('y')") == [
        *("read_bytes()", "open()")
    ]
    assert impure("pipeline", "from pathlib import Path\nPath('x').read_bytes()") == []


@pytest.mark.parametrize("path", PYTHON, ids=str)
def test_only_the_clock_reads_the_clock(path: Path) -> None:
    """I01: one stamp, carried as data; nothing else can name a thing by its own time."""
    reads = clock_reads(path.read_text())
    assert bool(reads) == (path == ROOT / "shim" / "clock.py"), reads


@pytest.mark.parametrize("path", SHELL, ids=str)
def test_no_script_reads_the_clock(path: Path) -> None:
    """I01: the date reaches the shell as data; SECONDS, which counts durations, is not a clock."""
    assert shell_clock_reads(HEREDOC.sub("", path.read_text())) == []


@pytest.mark.parametrize(
    "line",
    [
        "import datetime; datetime.datetime.now(datetime.UTC)",
        "from datetime import date as d; d.today()",
        "from datetime import datetime; f(default=datetime.utcnow)",
        "from time import time; time()",
        "import time as t; t.strftime('%F')",
        "import time; time.gmtime()",
        "import uuid; uuid.uuid1()",
    ],
)
def test_a_second_reader_of_the_clock_is_seen(line: str) -> None:
    """I01: put into a module that has none, each of these is found."""
    source = (ROOT / "shim" / "plan.py").read_text()
    assert clock_reads(source) == []
    assert len(clock_reads(f"{source}\n{line}\n")) == 1


def test_a_time_that_is_given_is_no_reading() -> None:
    """Formatting, durations and file times are."""
    source = "import time\ntime.monotonic(); time.gmtime(5); time.strftime('%F', moment)"
    assert clock_reads(source) == []


@pytest.mark.parametrize(
    "line",
    [
        *("day=$(date -u +%F)", "date", "x=`date +%s`", "if date; then", "a && date -u"),
        *("printf '%(%F)T' -1", "echo $EPOCHSECONDS", 'log="$(/bin/date)"', "command date"),
        *("awk 'BEGIN{print strftime()}'", "env TZ=UTC date", "LC_ALL=C date +%F"),
    ],
)
def test_a_script_that_reads_the_clock_is_seen(line: str) -> None:
    """I01: a command, a printf format and a variable; words about dates are not."""
    source = (ROOT / "infrastructure" / "run_stages.sh").read_text()
    assert len(shell_clock_reads(f"{source}\n{line}\n")) == 1
    assert shell_clock_reads("printf 'the run date is %s' \"$run_date\" # date\nSECONDS=0") == []
