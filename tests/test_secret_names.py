"""Which names are secrets' names, and how a table changes that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from shim import pipeline
from shim.errors import PipelineError
from shim.secret_names import PATTERNS, SecretNames

SECRET = [
    *("API_TOKEN", "TOKEN", "GITHUB_TOKEN", "AWS_SESSION_TOKEN"),
    *("DB_PASSWORD", "PASSWORD", "PGPASSWORD", "PG_MAIN_PASSWORD"),
    *("MYSQL_PWD", "POLYGON_API_KEY", "APIKEY", "SECRET_KEY"),
    *("AWS_SECRET_ACCESS_KEY", "CLIENT_SECRET_2", "SECRET", "PGPASSWD"),
    *("SSH_PASSPHRASE", "DB_PASS", "DB_PASS_OLD", "SENTRY_DSN"),
    *("DSN", "GCP_CREDENTIALS", "CREDENTIAL_JSON", "AUTHORIZATION"),
    *("REDISCLI_AUTH", "GIT_JWT", "api_token", "api-token"),
    *("Api-Key", "apiKey", "accessToken", "db.password"),
]
PLAIN = [
    *("PATH", "HOME", "PWD", "OLDPWD"),
    *("KEY", "LANG", "USER", "SSH_AUTH_SOCK"),
    *("SSH_ASKPASS", "GIT_ASKPASS", "BYPASS_CACHE", "AWS_ACCESS_KEY_ID"),
    *("AWS_REGION", "KEYBOARD", "TOKENIZERS_PARALLELISM", "MONKEY"),
    *("RUN_DATE", "EXECUTION_ID", "AUTHOR", "COMPASS"),
]


def names(redact: Any) -> SecretNames:
    """Return what a table with this `redact` says."""
    stage = {"name": "a", "command": ["x"], "timeout": 1}
    return pipeline.parse({"redact": redact, "stage": [stage]}, Path("/t.toml")).redact


@pytest.mark.parametrize("name", SECRET)
def test_a_secrets_name_is_known(name: str) -> None:
    """I56: in any case, with - and . for _, in one word or several."""
    assert SecretNames().secret(name)


@pytest.mark.parametrize("name", PLAIN)
def test_another_name_is_none(name: str) -> None:
    """What is masked without need makes a log unreadable."""
    assert not SecretNames().secret(name)


def test_a_tables_patterns_are_added_to_the_usual_ones() -> None:
    """I56: a list of one does not switch the others off, in either form."""
    for redact in (["*_Cookie"], {"patterns": ["*-cookie"]}):
        assert names(redact).secret("SITE_COOKIE")
        assert names(redact).secret("API_TOKEN")
    assert names({}) == SecretNames()
    assert set(PATTERNS) < set(names(["x"]).patterns)


def test_a_name_or_a_pattern_is_exempted_by_allow() -> None:
    """`PARTITION_KEY=customer` is no secret."""
    found = names({"allow": ["PARTITION_KEY", "--sort-*"]})
    allowed = ("PARTITION_KEY", "partition-key", "SORT_KEY")
    assert [found.secret(name) for name in allowed] == [False, False, False]
    assert found.secret("API_KEY")


@pytest.mark.parametrize(
    ("redact", "words"),
    [
        ({"alow": []}, "unknown key 'alow' of redact; did you mean allow?"),
        ({"allow": "X"}, "allow of redact is 'X'"),
        ({"patterns": [1]}, "patterns of redact is [1]"),
        ({"allow_files": [""]}, "allow_files of redact is ['']"),
        ("*_KEY", "redact is '*_KEY'"),
    ],
)
def test_a_mistake_in_redact_is_named(redact: object, words: str) -> None:
    """With the nearest right key."""
    with pytest.raises(PipelineError) as error:
        names(redact)
    assert words in str(error.value)
