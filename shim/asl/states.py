"""The states of a definition that are the same for every stage, as plain data.

Sources: states-language.net; "AWS SDK integrations" in the developer guide of Step Functions (a
service's error is its name, a dot and the error, which comes with and without `Exception`);
GetCommandInvocation in the API reference of Systems Manager (statuses).
"""

from __future__ import annotations

from typing import Any, TypeAlias

State: TypeAlias = dict[str, Any]

API_TIMEOUT = 60  # seconds for one call of an API; without it a Task may wait for years
SEND_COMMAND = "arn:aws:states:::aws-sdk:ssm:sendCommand"
GET_INVOCATION = "arn:aws:states:::aws-sdk:ssm:getCommandInvocation"
CANCEL_COMMAND = "arn:aws:states:::aws-sdk:ssm:cancelCommand"
PUBLISH = "arn:aws:states:::sns:publish"

RUNNING = ("Pending", "InProgress", "Delayed", "Cancelling")
ENDED = ("Cancelled", "TimedOut", "Failed")
# StatusDetails is finer, and SSM spells some with a space; each is an end without success.
DETAILS = ("DeliveryTimedOut", "Delivery Timed Out", "ExecutionTimedOut", "Execution Timed Out",
           "Undeliverable", "Terminated", "InvalidPlatform", "Invalid Platform", "AccessDenied",
           "Access Denied", "RateExceeded", "Rate Exceeded")  # fmt: skip


def retry(names: tuple[str, ...], interval: int, attempts: int, longest: int) -> State:
    """Return one retrier: doubled waits in seconds up to `longest`, each shortened at random."""
    return {
        "ErrorEquals": list(names),
        "IntervalSeconds": interval,
        "MaxAttempts": attempts,
        "BackoffRate": 2.0,
        "MaxDelaySeconds": longest,
        "JitterStrategy": "FULL",
    }


def _both(*names: str) -> tuple[str, ...]:
    return tuple(f"Ssm.{name}{end}" for name in names for end in ("", "Exception"))


# An error that the SDK has no class for, as `Rate exceeded` is, comes as SsmException.
THROTTLED = (*_both("Throttling", "TooManyRequests", "RequestLimitExceeded"), "Ssm.SsmException")
SHAKY = (*_both("InternalServerError"), "Ssm.SdkClientException", "States.Timeout")
UNREGISTERED = _both("InvalidInstanceId")  # an instance that has just started
UNKNOWN = _both("InvocationDoesNotExist")  # a command that was sent a second ago

# A command must not be sent twice, so only what SSM certainly refused is sent again.
SEND_RETRY = [retry(THROTTLED, 5, 8, 60), retry(UNREGISTERED, 10, 6, 60)]
POLL_RETRY = [retry(UNKNOWN, 3, 10, 30), retry(THROTTLED, 5, 30, 60), retry(SHAKY, 5, 10, 60)]
CANCEL_RETRY = [retry((*THROTTLED, *SHAKY), 5, 8, 60)]
PUBLISH_RETRY = [retry(("States.TaskFailed", "States.Timeout"), 5, 5, 60)]


def passes(comment: str, following: str | None, **fields: Any) -> State:
    """Return a Pass state; without a following state it ends its machine."""
    return {"Type": "Pass", "Comment": comment, **fields, **_next(following)}


def fails(comment: str, **fields: Any) -> State:
    """Return a Fail state."""
    return {"Type": "Fail", "Comment": comment, **fields}


def choice(comment: str, rules: list[State], otherwise: str) -> State:
    """Return a Choice state."""
    return {"Type": "Choice", "Comment": comment, "Choices": rules, "Default": otherwise}


def wait(comment: str, following: str, **fields: Any) -> State:
    """Return a Wait state."""
    return {"Type": "Wait", "Comment": comment, **fields, "Next": following}


def task(
    comment: str,
    resource: str,
    parameters: State,
    following: str,
    retries: list[State],
    caught: tuple[str, str | None],
    **fields: Any,
) -> State:
    """Return a Task state; `caught` is where every error leads and where it is put."""
    return {
        "Type": "Task",
        "Comment": comment,
        "Resource": resource,
        "TimeoutSeconds": API_TIMEOUT,
        "Parameters": parameters,
        **fields,
        "Retry": retries,
        "Catch": [{"ErrorEquals": ["States.ALL"], "ResultPath": caught[1], "Next": caught[0]}],
        "Next": following,
    }


def equals(variable: str, value: str | bool | int) -> State:
    """Return the test that a variable is a text, a boolean or a number."""
    kinds = {str: "StringEquals", bool: "BooleanEquals", int: "NumericEquals"}
    return {"Variable": variable, kinds[type(value)]: value}


def is_true(variable: str) -> State:
    """Return the test that a variable is there and true; a missing one is false."""
    return {"And": [{"Variable": variable, "IsPresent": True}, equals(variable, True)]}


def literals(*parts: str) -> str:
    """Return a States.Array call of these arguments."""
    return f"States.Array({', '.join(parts)})"


def text(literal: str, *values: str) -> str:
    """Return a literal as an argument: quoted, in States.Format if it takes values."""
    return f"States.Format('{literal}', {', '.join(values)})" if values else f"'{literal}'"


def _next(following: str | None) -> State:
    return {"Next": following} if following else {"End": True}
