"""Tab after the entry's name: options, stages and commands, asked in real shells."""

from __future__ import annotations

import os
import pty
import select
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from shim import completion
from tests.calls import child, one_line, write_table
from tests.entry import ROOT, base_env

PATIENCE = 20.0
ASK = r"""
eval "$(_SPOT_BACKTEST_SH_COMPLETE=bash_source ./spot_backtest.sh)"
ask() {
  COMP_WORDS=(./spot_backtest.sh "$@") COMP_CWORD=$# COMPREPLY=()
  "$(complete -p spot_backtest.sh | sed 's/.* -F \([^ ]*\) .*/\1/')" ./spot_backtest.sh
  printf '%s\n' "${COMPREPLY[*]}"
}
"""
# The words after the entry's name, the last one unfinished, and what Tab offers. Bash's own
# COMP_WORDBREAKS splits a word at `=`.
CASES = [
    ("--on", "--only-stages --on"),
    ("--freeze", "--freeze-evaluator"),
    ("--only-stages back", "backtest"),
    ("--only-stages ''", "backtest parity evaluator"),
    ("--only-stages backtest,", "backtest,parity backtest,evaluator"),
    ("--skip-stages parity,backtest,e", "parity,backtest,evaluator"),
    ("--skip-stages = pa", "parity"),
    ("--date today --skip-stages = ''", "backtest parity evaluator"),
    ("--date y", "yesterday"),
    ("--on h", "here"),
    ("p", "plan preflight"),
    ("plan --js", "--json"),
    ("plan --only-stages ev", "evaluator"),
    ("stage back", "backtest"),
    ("x", ""),
]
# Each shell's start: its completion, the script, and Ctrl-X that writes the line to a file.
START = {
    "bash": """PS1='ready> '; bind 'set bell-style none'
    eval "$(_SPOT_BACKTEST_SH_COMPLETE=bash_source ./spot_backtest.sh)"
    bind -x '"\\C-x": printf "%s" "$READLINE_LINE" >"$LINE"'""",
    "zsh": """autoload -Uz compinit; compinit -D -u; PS1='ready> '
    eval "$(_SPOT_BACKTEST_SH_COMPLETE=zsh_source ./spot_backtest.sh)"
    keep() { print -rn -- "$BUFFER" >$LINE }; zle -N keep; bindkey '^X' keep""",
}
COMMAND = {"bash": ["bash", "--norc", "--noprofile", "-i"], "zsh": ["zsh", "-f", "-i"]}


def ask(*questions: str, env: dict[str, str] | None = None) -> list[str]:
    """Return what bash is offered for each question."""
    script = ASK + "".join(f"ask {question}\n" for question in questions)
    done = subprocess.run(
        ["bash", "--norc", "-c", script],
        cwd=ROOT,
        env=base_env(**(env or {})),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_bash_completes_options_stages_lists_and_commands() -> None:
    """The script is evaluated in bash and asked as readline asks it."""
    assert dict(CASES) == dict(zip(dict(CASES), ask(*dict(CASES)), strict=True))


def test_the_stages_are_those_of_the_table_on_the_line(tmp_path: Path) -> None:
    """--pipeline before Tab and SPOT_PIPELINE name it; a broken one breaks no Tab."""
    rows = '{name="uno", command=["x"], timeout=1, options={rapid-uno={}}}'
    table = write_table(tmp_path, f"stage = [{rows}]")
    broken = write_table(tmp_path / "broken", "stage = [")
    assert ask(
        f"--pipeline {table} --only-stages ''",
        f"--pipeline {table} --rap",
        f"--pipeline {broken} --only-stages ''",
        f"--pipeline {broken} --only",
    ) == ["uno", "--rapid-uno", "", "--only-stages"]
    assert ask("--only-stages u", env={"SPOT_PIPELINE": str(table)}) == ["uno"]


@pytest.mark.parametrize("shell", COMMAND)
def test_a_tab_completes_at_a_real_prompt(shell: str, tmp_path: Path) -> None:
    """The entry need not be on PATH: it is asked by the name that was typed."""
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not on this machine")
    with Prompt.of(shell, tmp_path) as prompt:
        assert prompt.completed("--only-stages back") == "--only-stages backtest "
        assert prompt.completed("--skip-stages parity,e") == "--skip-stages parity,evaluator "
        assert prompt.completed("pref") == "preflight "
        assert prompt.completed("--freez") == "--freeze-evaluator "
        assert {"--on", "--only-stages"} <= prompt.listed("--on")


def test_a_shell_that_is_not_known_is_refused() -> None:
    """Exit 1 and nothing for the shell to evaluate."""
    done = child(env={completion.VARIABLE: "tcsh_source"})
    assert (done.code, done.out) == (1, "")


def test_an_empty_question_is_none() -> None:
    """A variable that is set to nothing does not turn a run into a completion."""
    env = {completion.VARIABLE: "", "SPOT_CODE_VERSION": "abc"}
    assert child("plan", env=env).out.startswith("run date")
    assert "'--quiet' is not an option" in one_line(child("--quiet", env=env), 2)


class Prompt:
    """An interactive shell on a terminal of its own."""

    def __init__(self, terminal: int, line: Path) -> None:
        self.terminal, self.line = terminal, line
        self.seen = ""

    @classmethod
    @contextmanager
    def of(cls, shell: str, folder: Path) -> Iterator[Prompt]:
        """Start a shell in the project, and end it by its pid."""
        line, start = folder / "line", folder / "start"
        start.write_text(START[shell])
        env = base_env(LINE=str(line), TERM="dumb", HOME=str(folder), HISTFILE="/dev/null")
        terminal, theirs = pty.openpty()
        child = subprocess.Popen(
            COMMAND[shell],
            cwd=ROOT,
            env=env,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        try:
            prompt = cls(terminal, line)
            prompt.type(f". {shlex.quote(str(start))}\r")
            prompt.wait_for("ready> ")
            yield prompt
        finally:
            child.kill()
            child.wait()
            os.close(terminal)

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self.terminal, keys.encode())

    def wait_for(self, *texts: str) -> None:
        """Read the screen until it shows these texts."""
        deadline = time.monotonic() + PATIENCE
        while not all(text in self.seen for text in texts):
            left = deadline - time.monotonic()
            assert left > 0, self.seen
            if select.select([self.terminal], [], [], left)[0]:
                self.seen += os.read(self.terminal, 4096).decode(errors="replace")

    def completed(self, words: str) -> str:
        """Return what the line is after Tab, without the entry's name."""
        entry = "./spot_backtest.sh "
        self.line.unlink(missing_ok=True)
        self.type(f"\x15{entry}{words}\t\x18")
        deadline = time.monotonic() + PATIENCE
        while not self.line.exists() or not self.line.read_text():
            assert time.monotonic() < deadline, self.seen
            time.sleep(0.01)
        return self.line.read_text().removeprefix(entry)

    def listed(self, word: str) -> set[str]:
        """Return the words that Tab pressed twice lists."""
        self.seen = ""
        self.type(f"\x15./spot_backtest.sh {word}\t\t")
        self.wait_for("--only-stages", f"{word} ")
        return set(self.seen.split())
