"""Moto's Step Functions as a program: executes state machines, and shows what they send to SSM.

Usage: python tests/lab/moto_engine.py
A line of standard input is {definition, input, name}; a line of standard output is {sent: [what
each sendCommand was given, …], error: the execution's failure or null}. Every command succeeds at
once. Ends with its standard input.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import boto3
from botocore.exceptions import ClientError
from moto import mock_aws
from moto.core.config import DefaultConfig

ROLE = "arn:aws:iam::123456789012:role/lab"
TOPIC = "t"
LONGEST = 60  # seconds for an execution
CONFIG: DefaultConfig = {"stepfunctions": {"execute_state_machine": True}}


def execute(states: Any, ssm: Any, order: dict[str, Any], number: int) -> dict[str, Any]:
    """Run one execution to its end; its output may not hold a date, which moto cannot describe."""
    before = {command["CommandId"] for command in ssm.list_commands()["Commands"]}
    try:
        machine = states.create_state_machine(
            name=f"machine-{number}", definition=json.dumps(order["definition"]), roleArn=ROLE
        )["stateMachineArn"]
    except ClientError as error:
        return {"sent": [], "error": str(error)}
    arn = states.start_execution(
        stateMachineArn=machine, name=order["name"], input=json.dumps(order["input"])
    )["executionArn"]
    deadline = time.monotonic() + LONGEST
    while (found := states.describe_execution(executionArn=arn))["status"] == "RUNNING":
        assert time.monotonic() < deadline, order["name"]
        time.sleep(0.01)
    sent = [
        {"Parameters": command["Parameters"]}
        for command in ssm.list_commands()["Commands"]
        if command["CommandId"] not in before
    ]
    failed = found["status"] != "SUCCEEDED"
    cause = f"{found.get('error')}: {found.get('cause')}"
    return {"sent": sent, "error": cause if failed else None}


def main() -> None:
    """Execute what each line of standard input orders."""
    with mock_aws(config=CONFIG):
        boto3.client("sns").create_topic(Name=TOPIC)
        states, ssm = boto3.client("stepfunctions"), boto3.client("ssm")
        for number, line in enumerate(sys.stdin):
            print(json.dumps(execute(states, ssm, json.loads(line), number)), flush=True)


if __name__ == "__main__":
    main()
