"""Which files look like secrets, by their names and by how they begin."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

NAMES = (
    ".env",
    ".env.*",
    "*.env",
    ".envrc",
    "credentials",
    "credentials.*",
    "*credentials.json",
    "client_secret*.json",
    "service[-_]account*.json",
    "secrets.*",
    "*.pem",
    "*.key",
    "*.p12",
    "*.pfx",
    "*.jks",
    "*.keystore",
    "*.ppk",
    "*.kdbx",
    ".netrc",
    "_netrc",
    ".pgpass",
    ".my.cnf",
    ".pypirc",
    ".git-credentials",
    ".htpasswd",
    ".dockercfg",
    ".vault-token",
)
FOLDERS = {".ssh", ".aws", ".gnupg", ".kube"}
# Of `.env.example`, which a repository holds so that others know what to set, and of code.
HARMLESS = (".example", ".sample", ".template", ".dist", ".py", ".sh", ".md", ".pub")
PRIVATE_KEY = re.compile(rb"\s*-----BEGIN [A-Z0-9 ]*PRIVATE KEY")  # RFC 7468, and OpenSSH's own
NPM_TOKEN = re.compile(rb"_auth|_password", re.IGNORECASE)


def looks_secret(path: str, content: bytes) -> bool:
    """Return whether a file looks like a secret: a key, a password file, a file of variables."""
    place = PurePosixPath(path)
    name = place.name.lower()
    if PRIVATE_KEY.match(content):
        return True
    if name.endswith(HARMLESS):
        return False
    if FOLDERS.intersection(place.parts[:-1]):
        return True
    if name.startswith("id_"):  # id_rsa, id_ed25519; not id_map.csv
        return not place.suffix
    if name == ".npmrc":  # most of these hold the address of a registry alone
        return NPM_TOKEN.search(content) is not None
    return any(fnmatchcase(name, pattern) for pattern in NAMES)


def named(path: str, allowed: Sequence[str]) -> bool:
    """Return whether a file was named: by its name, its path or the end of that, or a pattern."""
    patterns = (PurePosixPath(pattern) for pattern in allowed)
    return any(p.parts and PurePosixPath(path).match(str(p)) for p in patterns)
