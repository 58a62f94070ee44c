"""ASL505 shellcheck-error: an error that shellcheck finds in a script.

Why: Its errors (not its warnings) are things that do not work, such as `[ a = b]` or `for $x in …`.

Fix: read what shellcheck says under the number in the text: shellcheck.net/wiki/SC….

Silent: bash cannot parse the script (then ASL504 says so), or the first line names something else
than sh, bash or dash. When shellcheck is missing the command says so.

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
              - for $stage in backtest parity; do make $stage; done
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
              - for stage in backtest parity; do make $stage; done
        End: true
"""

from __future__ import annotations

from collections.abc import Iterator

from shim.asl import shells
from shim.asl.rules import Hit
from shim.asl.subject import Subject


def check(subject: Subject) -> Iterator[Hit]:
    """Return a hit for each error."""
    scripts = {s.path: s.script for s in subject.senders if s.script.interpreter in shells.KNOWN}
    texts = {path: script.text for path, script in scripts.items()}
    refused = shells.bash(texts)
    checked = {path: text for path, text in texts.items() if path not in refused}
    for path, number, message, line in shells.shellcheck(checked):
        text = scripts[path].shown(line.strip())
        yield Hit(path, text, f"SC{number}: {scripts[path].shown(message)}")
