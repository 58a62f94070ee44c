"""What can name a store, and a key in one: the rules alone, without touching either."""

from __future__ import annotations

import re
from dataclasses import dataclass

from shim.errors import UsageError, shown

HIDDEN = ".shim-"  # names that start so belong to the directory store itself
MAX_KEY = 1024  # bytes: docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html
# Rules of names: docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
BUCKET = re.compile(r"(?!\d+\.\d+\.\d+\.\d+$)(?!.*\.\.)[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", re.ASCII)
SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):/")
HINTS = {"s3": "write s3://bucket[/prefix]", "file": "give the path alone"}
EITHER = "use a directory or s3://bucket[/prefix]"


@dataclass(frozen=True)
class Address:
    """Where a store is: `path` is the prefix in a bucket, or a directory if there is none."""

    bucket: str
    path: str

    @property
    def uri(self) -> str:
        """The address as text, without a slash at its end."""
        return f"s3://{self.bucket}/{self.path}".rstrip("/") if self.bucket else self.path


def parse(text: str, source: str = "") -> Address:
    """Return the address that a text is; `source` is the flag or the variable that set it.

    A directory stays as it is written. Raises UsageError.
    """

    def refused(why: str, hint: str) -> UsageError:
        setter = f" (set by {source})" if source else ""
        return UsageError(f"{shown(text)} is not a store{why}{setter}", hint)

    if text.startswith("s3://"):
        bucket, _, prefix = text.removeprefix("s3://").partition("/")
        prefix = prefix.rstrip("/")
        if not BUCKET.fullmatch(bucket):
            raise refused(
                f": {shown(bucket)} cannot name a bucket",
                "a bucket has 3 to 63 lower-case letters, digits, dots and hyphens",
            )
        if prefix and (problem := key_problem(prefix)):
            raise refused(f": its prefix {problem}", "use s3://bucket/prefix")
        return Address(bucket, prefix)
    if match := SCHEME.match(text):
        raise refused("", HINTS.get(match[1].lower(), EITHER))
    if not text.strip() or not text.isprintable():
        raise refused("", EITHER)
    return Address("", text)


def key_problem(key: str) -> str | None:
    """Return why a text cannot be a key, or None if it can."""
    parts = key.split("/")
    if any(part in ("", ".", "..") for part in parts):
        return "is not a relative path"
    if "\\" in key or not key.isprintable():
        return "holds a character that a key cannot"
    if any(part.startswith(HIDDEN) for part in parts):
        return f"holds a name that starts with {HIDDEN}, which the store keeps for itself"
    return "is too long" if len(key.encode()) > MAX_KEY else None
