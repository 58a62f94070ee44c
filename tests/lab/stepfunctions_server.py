"""Step Functions on 127.0.0.1: ministack's engine, with an SSM that runs scripts as the agent does.

Usage: GATEWAY_PORT=… LAB_FOLDER=… LAB_PATH=… python tests/lab/stepfunctions_server.py
Runs in ministack's own environment, and imports nothing of the project. It serves until its
standard input ends, so it never outlives who started it.

Calls of SSM and SNS are checked against botocore's models, logged to NAME.calls (one JSON object a
line) and answered here; NAME is the execution's. NAME.plan orders what goes wrong: "errors" is
{"action" or "action slug": [[error, times], …]}, "answers" is {slug: [[invocation, …], …]}, for
each try the invocations that are reported in turn instead of running the script, the last one for
ever.

The agent: the commands are joined by newlines to `_script.sh`, run by `sh -c`, in a process group
of their own, with PATH and SSM_COMMAND_ID only, in /usr/bin; a timeout and a cancel are SIGKILL to
the group, 137 is reported as TimedOut, death by a signal as -1, and an invocation is unknown at
first: docs.aws.amazon.com/systems-manager/latest/userguide/monitor-commands.html
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import uuid
from pathlib import Path
from typing import Any

from botocore.loaders import Loader
from botocore.model import ServiceModel
from botocore.validate import ParamValidator
from ministack import app  # type: ignore[import-not-found]  # not in the tests' environment
from ministack.services import stepfunctions  # type: ignore[import-not-found]

FOLDER = Path(os.environ["LAB_FOLDER"])
PATIENCE = 0.2  # seconds that a question waits for the end: Waits are scaled down, scripts are not
SLUG = re.compile(r"--slug (\S+)")
SPAWNING = threading.Lock()
MODELS = {
    name: ServiceModel(Loader().load_service_model(name, "service-2")) for name in ("ssm", "sns")
}


class Execution:
    """What was ordered for one execution, and the log of its calls."""

    def __init__(self, name: str) -> None:
        plan = FOLDER / f"{name}.plan"
        self.plan: dict[str, Any] = json.loads(plan.read_text()) if plan.exists() else {}
        self.log = FOLDER / f"{name}.calls"
        self.lock = threading.Lock()

    def call(self, action: str, slug: str, params: Any) -> None:
        """Log a call, and raise the error that was ordered for it."""
        with self.lock:
            error = self._error(f"{action} {slug}") or self._error(action)
            with self.log.open("a") as log:
                entry = {"action": action, "slug": slug, "error": error, "params": params}
                log.write(json.dumps(entry) + "\n")
        if error:
            raise stepfunctions._ExecutionError(error, "ordered by a test")

    def _error(self, key: str) -> str:
        for order in self.plan.get("errors", {}).get(key, []):
            if order[1]:
                order[1] -= 1
                return str(order[0])
        return ""

    def answers(self, slug: str) -> list[Any] | None:
        """Return what is to be reported for this try of a stage."""
        tries = self.plan.get("answers", {}).get(slug)
        if not tries:
            return None
        answers: list[Any] = tries.pop(0) if len(tries) > 1 else tries[0]
        return list(answers)


class Command:
    """One command on one instance."""

    def __init__(self, execution: Execution, slug: str, params: Any) -> None:
        self.id = str(uuid.uuid4())
        self.execution, self.slug = execution, slug
        self.instance = params["InstanceIds"][0]
        self.unknown = ["Ssm.InvocationDoesNotExistException", "Ssm.InvocationDoesNotExist"]
        self.answers = execution.answers(slug)
        self.status: dict[str, Any] = {"Status": "Pending", "ResponseCode": -1}
        self.process: subprocess.Popen[bytes] | None = None
        self.cancelled = False
        self.ended = threading.Event()
        if self.answers is not None:
            self.ended.set()
        else:
            threading.Thread(target=self._run, args=[params["Parameters"]], daemon=True).start()

    def invocation(self) -> dict[str, Any]:
        """Return the invocation; it does not exist for the first questions."""
        if self.unknown:
            raise stepfunctions._ExecutionError(self.unknown.pop(), "not registered yet")
        self.ended.wait(PATIENCE)
        if self.answers:
            status = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        else:
            status = self.status
        return {
            "StatusDetails": status["Status"],
            **status,
            "CommandId": self.id,
            "InstanceId": self.instance,
        }

    def cancel(self) -> None:
        """End the command as the agent does."""
        self.cancelled = True
        if self.process is not None and not self.ended.is_set():
            self._kill(self.process)

    def _run(self, parameters: dict[str, list[str]]) -> None:
        folder = FOLDER / self.id
        folder.mkdir()
        environment = {"PATH": os.environ["LAB_PATH"], "SSM_COMMAND_ID": self.id}
        kept = ("LD_PRELOAD", "FAKETIME")
        environment |= {k: v for k, v in os.environ.items() if k.startswith(kept)}
        with (folder / "output").open("wb") as output:
            # A fork beside the writing would keep the script open, and it could not be executed.
            with SPAWNING:
                script = folder / "_script.sh"
                script.write_text("\n".join(parameters["commands"]))
                script.chmod(0o700)
                self.process = subprocess.Popen(
                    ["/bin/sh", "-c", str(script)],
                    cwd="/usr/bin",
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    process_group=0,
                )
            self.status = {"Status": "InProgress", "ResponseCode": -1}
            try:
                code = self.process.wait(timeout=float(parameters["executionTimeout"][0]))
            except subprocess.TimeoutExpired:
                self._kill(self.process)
                code = 137
        if self.cancelled:
            self.status = {"Status": "Cancelled", "ResponseCode": -1}
        elif code == 137:
            details = "ExecutionTimedOut"
            self.status = {"Status": "TimedOut", "StatusDetails": details, "ResponseCode": 137}
        else:
            status = "Failed" if code else "Success"
            self.status = {"Status": status, "ResponseCode": max(code, -1)}
        self.ended.set()

    @staticmethod
    def _kill(process: subprocess.Popen[bytes]) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


class Services:
    """The calls of all executions."""

    def __init__(self) -> None:
        self.executions: dict[str, Execution] = {}
        self.commands: dict[str, Command] = {}
        self.lock = threading.Lock()

    def invoke(self, resource: str, params: dict[str, Any]) -> dict[str, Any]:
        """Answer a Task's call. Raises the engine's own error for one that AWS would refuse."""
        service, action = re.split(r":+", resource)[-2:]
        shape = MODELS[service].operation_model(action[0].upper() + action[1:]).input_shape
        assert shape is not None
        report = ParamValidator().validate(params, shape)
        if report.has_errors():
            raise stepfunctions._ExecutionError("States.Runtime", report.generate_report())
        answer: dict[str, Any] = getattr(self, action)(params)
        return answer

    def sendCommand(self, params: dict[str, Any]) -> dict[str, Any]:  # noqa: N802 - the action
        execution = self._execution(params["Comment"])
        slug = SLUG.findall("\n".join(params["Parameters"]["commands"]))[0]
        execution.call("sendCommand", slug, params)
        command = Command(execution, slug, params)
        self.commands[command.id] = command
        return {"Command": {"CommandId": command.id, "Status": "Pending"}}

    def getCommandInvocation(self, params: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        command = self.commands[params["CommandId"]]
        command.execution.call("getCommandInvocation", command.slug, params)
        return command.invocation()

    def cancelCommand(self, params: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        command = self.commands[params["CommandId"]]
        command.execution.call("cancelCommand", command.slug, params)
        command.cancel()
        return {}

    def publish(self, params: dict[str, Any]) -> dict[str, Any]:
        self._execution(params["Message"].split()[1]).call("publish", "", params)
        return {"MessageId": "1"}

    def _execution(self, name: str) -> Execution:
        with self.lock:
            return self.executions.setdefault(name, Execution(name))


def main() -> None:
    """Serve until the standard input ends; then end what runs."""
    services = Services()

    def leave() -> None:
        sys.stdin.read()
        for command in list(services.commands.values()):
            command.cancel()
        os._exit(0)

    threading.Thread(target=leave, daemon=True).start()
    stepfunctions._invoke_resource = services.invoke
    sys.argv[1:] = []
    app.main()


if __name__ == "__main__":
    main()
