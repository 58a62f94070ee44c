"""The secrets of an environment and of a command: by name, and by what a value says itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from shim.secret_names import SecretNames
from shim.secret_values import (
    Secret,
    command_secrets,
    environment_secrets,
    masked_command,
    masked_line,
)

NAMES = SecretNames(allow=("PARTITION_KEY", "PROXY_URL"))
URL = "postgresql://app:hunter2pw@db:5432/prices?sslmode=require"


def found(**env: str) -> set[tuple[str, str]]:
    """Return the secrets of an environment."""
    return {(secret.name, secret.value) for secret in environment_secrets(env, NAMES)}


def values(*words: str, **flags: str) -> set[str]:
    """Return the secrets of a command."""
    given = {f"-{flag}": name for flag, name in flags.items()}
    return {secret.value for secret in command_secrets(words, NAMES, given)}


def test_the_value_of_a_secrets_name_is_one() -> None:
    """I56: unless it is short, or its name is allowed."""
    assert found(POLYGON_API_KEY="poly-123", SECRET_KEY="short", PARTITION_KEY="customer") == {
        ("POLYGON_API_KEY", "poly-123")
    }


@pytest.mark.parametrize(
    ("text", "password"),
    [
        (URL, "hunter2pw"),
        ("redis://:hunter2pw@cache:6379/0", "hunter2pw"),
        ("https://u:hun%40ter2@a https://v:other-one@b", "hun@ter2"),
        ("https://u:hun%40ter2@a https://v:other-one@b", "other-one"),
        ("postgresql://app:hun/ter2@db/prices", "hun/ter2"),
        ("amqp://u:hun@ter2@host", "hun@ter2"),
        ("https://ghp_0123456789abcdefghij@github.com/o/r", "ghp_0123456789abcdefghij"),
        ("jdbc:postgresql://db/prices?user=app&password=hunter2pw&ssl=true", "hunter2pw"),
        ("https://api/v1?access_token=abc%2Bdef%3D&page=2", "abc+def="),
        ("host=db password=hunter2pw user=app", "hunter2pw"),
        ("Server=db;UID=app;Pwd=hunter2pw;", "hunter2pw"),
        ("AccountName=a;AccountKey=aGVsbG8td29ybGQ=;EndpointSuffix=x", "aGVsbG8td29ybGQ="),
        ("-Xmx1g -Djavax.net.ssl.keyStorePassword=hunter2pw", "hunter2pw"),
        ('{"user": "app", "password": "hun\\"ter2"}', 'hun"ter2'),
        ("X-Api-Key: abcdef123", "abcdef123"),
        ("Authorization: Bearer abcdef123", "abcdef123"),
    ],
)
def test_a_value_may_hold_a_secret_whatever_its_variable_is_called(
    text: str, password: str
) -> None:
    """I56: the password of a URL, and what a key with a secret's name is set to."""
    assert ("SETTING", password) in found(SETTING=text)


@pytest.mark.parametrize(
    "text",
    [
        "https://example.com:8080/pkg@1.0",
        "ssh://git@github.com/o/r",
        "postgresql://app@db/prices",
        "arn:aws:secretsmanager:eu-west-1:123456789012:secret:prod/db-AbCdEf",
        "*.pem=01;31:*.key=01;31",
        "12:30:00 key: value",
        "password=$DB_PASSWORD token=$(cat token)",
        "the secret of this is patience",
    ],
)
def test_an_ordinary_value_holds_none(text: str) -> None:
    """Else half of a log would be stars."""
    assert found(SETTING=text) == set()


def test_an_allowed_variable_is_left_alone_whole() -> None:
    """`[redact] allow` is the user's word."""
    assert found(PROXY_URL="http://u:password1@proxy") == set()


def test_a_path_of_something_that_exists_is_no_secret(tmp_path: Path) -> None:
    """The key file may be named in a log; what is in it is not known here."""
    assert found(SSH_KEY=str(tmp_path), OTHER_KEY="/nowhere/at/all") == {
        ("OTHER_KEY", "/nowhere/at/all")
    }


@pytest.mark.parametrize(
    "words",
    [
        ("fetch", "--api-token", "hunter2pw"),
        ("fetch", "--api-token=hunter2pw"),
        ("fetch", "-password", "hunter2pw"),
        ("env", "API_KEY=hunter2pw", "fetch"),
        ("sh", "-c", "fetch --password hunter2pw --verbose"),
        ("sh", "-c", "fetch --password='hunter2pw' --verbose"),
        ("curl", "-H", "Authorization: Bearer hunter2pw"),
        ("psql", URL),
        ("fetch", "-t", "hunter2pw"),
        ("fetch", "-t=hunter2pw"),
    ],
)
def test_a_commands_secret_is_found_and_nothing_else_of_it_is_hidden(
    words: tuple[str, ...],
) -> None:
    """I56: by the flag's name, by what a word says, by the option that passes it."""
    assert values(*words, t="--api-token") == {"hunter2pw"}
    shown = masked_command(words, NAMES, {"-t": "--api-token"})
    assert shown == tuple(word.replace("hunter2pw", "***") for word in words)


@pytest.mark.parametrize(
    "words",
    [
        ("fetch", "--use-token", "--verbose"),
        ("fetch", "--no-password", "file.csv"),
        ("aws", "s3api", "get-object", "--key", "prices/2026.csv"),
        ("fetch", "--partition-key", "customer"),
        ("fetch", "token", "passwords"),
    ],
)
def test_a_command_without_a_secret_is_shown_as_it_is(words: tuple[str, ...]) -> None:
    """A flag before a flag has no value; the key of an object is none."""
    assert values(*words) == set()
    assert masked_command(words, NAMES) == words


def test_a_short_secret_of_a_command_is_hidden_where_it_stands() -> None:
    """There nothing else is blotted out."""
    assert masked_command(["fetch", "--api-token", "x"], NAMES) == ("fetch", "--api-token", "***")


def test_the_names_are_one_short_line() -> None:
    """Names alone, each once, printable, and not without end."""
    secrets = [Secret(name, "value") for name in ("A_KEY", "A_KEY", "--token", "B\n_KEY", "x" * 99)]
    assert masked_line(secrets) == f"masked in logs: A_KEY, --token, B?_KEY, {'x' * 57}..."
    many = masked_line(Secret(f"K{number}_KEY", "v") for number in range(30))
    assert many.endswith("K19_KEY and 10 more")
    assert masked_line([]) == ""


def test_a_long_value_takes_no_long_time() -> None:
    """What the environment holds is not ours: 20 kB without a break."""
    for text in ("a" * 20_000, "a=" * 10_000, "-" * 20_000, "://" * 6_000, "a: " * 6_000):
        environment_secrets({"X": text}, NAMES)
