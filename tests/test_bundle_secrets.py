"""A bundle of a tree as it is holds no secret by accident."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from shim import bundle
from shim.errors import PreflightError
from shim.secret_files import looks_secret
from tests.children import PATIENCE
from tests.lab.aws import AwsLab
from tests.launches import Spot
from tests.repositories import commit_all
from tests.test_bundle import files

PRIVATE = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaA==\n"
SECRET = [
    *(".env", "deep/.env", ".env.production", "prod.env", ".envrc", ".ENV", "id_rsa"),
    *("keys/id_ed25519", "id_ecdsa_sk", "credentials", "credentials.json", "gcp-credentials.json"),
    *("client_secret_12.json", "service_account.json", "secrets.yaml", "ca.pem", "tls.key"),
    *("a.p12", "a.pfx", ".netrc", ".pgpass", ".pypirc", ".git-credentials", ".aws/config"),
]
HARMLESS = [
    *(".env.example", ".env.sample", ".env.template", "id_rsa.pub", "id_map.csv", "code é.py"),
    *("credentials.py", "key.txt", "environment.yml", "monkey", "ideas", ".npmrc", "secrets.md"),
]


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A repository with one commit, and a change that makes it dirty."""
    folder = tmp_path / "work"
    write(folder, "code.py", "print(1)\n")
    commit_all(folder)
    write(folder, "code.py", "print(2)\n")
    return folder


def write(folder: Path, name: str, text: str = "x=y\n") -> None:
    """Write a file with its folders."""
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)


def made(folder: Path, *allow_files: str) -> set[str]:
    """Return the files of a bundle of the tree as it is."""
    found = bundle.make(folder, folder, "unknown", True, allow_files)
    return {name.removeprefix("work/") for name in files(found)}


def refused(folder: Path, *allow_files: str) -> str:
    """Return how the bundle is refused."""
    with pytest.raises(PreflightError, match="look like secrets") as caught:
        made(folder, *allow_files)
    assert caught.value.code == 69
    return str(caught.value)


@pytest.mark.parametrize("name", SECRET)
def test_a_file_that_looks_like_a_secret_is_known_by_its_name(name: str) -> None:
    """I56: keys, password files, files of variables."""
    assert looks_secret(name, b"x=y\n")


@pytest.mark.parametrize("name", HARMLESS)
def test_another_file_is_no_secret(name: str) -> None:
    """A template of one, a public key, code."""
    assert not looks_secret(name, b"x=y\n")


def test_a_private_key_is_known_by_how_it_begins() -> None:
    """Whatever it is called; of npm's file what is in it decides."""
    assert looks_secret("deploy", PRIVATE.encode())
    assert looks_secret(".npmrc", b"//registry/:_authToken=abc\n")
    assert not looks_secret("README.txt", b"It begins with -----BEGIN PRIVATE KEY-----")


@pytest.mark.parametrize("repository", [True, False], ids=["repository", "folder"])
def test_a_bundle_with_secrets_is_refused_and_all_of_them_are_named(
    work: Path, tmp_path: Path, repository: bool
) -> None:
    """I56: --allow-dirty bundled `.env` and `id_rsa`; both are named at once, others are not."""
    folder = work if repository else tmp_path / "plain"
    for name in (".env", "deep/id_rsa", ".env.example", "deploy"):
        write(folder, name, PRIVATE if name == "deploy" else "x=y\n")

    message = refused(folder)

    named = message.partition("(")[2].partition(")")[0]
    assert named == f"in {folder}: .env, deep/id_rsa, deploy"
    assert "allow_files" in message


def test_a_file_that_is_named_is_bundled(work: Path) -> None:
    """I56: by its name, its path or a pattern; the others are still refused."""
    for name in (".env", "deep/id_rsa", "keys/a.pem"):
        write(work, name)
    assert ": keys/a.pem)" in refused(work, ".env", "deep/id_rsa", ".")
    assert ": .env)" in refused(work, "id_rsa", "*.pem")
    assert {".env", "deep/id_rsa", "keys/a.pem"} < made(work, ".env", "deep/id_rsa", "keys/*")


def test_what_is_ignored_or_committed_or_a_link_is_no_accident(work: Path, tmp_path: Path) -> None:
    """Ignored files are never bundled; a commit was a decision, until the file changes."""
    write(work, ".gitignore", "ignored.env\n")
    write(work, "fixture.pem")
    commit_all(work)
    write(work, "ignored.env")
    write(work, "code.py", "print(3)\n")
    (work / "id_rsa").symlink_to(tmp_path / "elsewhere")
    assert made(work) == {".gitignore", "code.py", "fixture.pem", "id_rsa"}

    write(work, "fixture.pem", "another")
    assert "fixture.pem)" in refused(work)


def test_many_secrets_are_named_and_the_rest_counted(work: Path) -> None:
    """The message stays one that can be read."""
    for number in range(25):
        write(work, f"{number}.pem")
    assert "and 5 more)" in refused(work)


@pytest.mark.slow
def test_it_is_said_before_an_instance_is_paid_for(aws: AwsLab, tool: Path, tmp_path: Path) -> None:
    """I56: in preflight, with 69 and nothing launched; named in the table it is launched."""
    spot = Spot(aws, tool, tmp_path / "spot")
    spot.table.three()
    commit_all(spot.work)
    write(spot.work, ".env")

    done = preflight(spot)
    assert (done.returncode, aws.instances) == (69, {}), done.stderr
    assert f"in {spot.work}: .env)" in done.stderr

    text = spot.table.path.read_text()
    spot.table.path.write_text(f'redact = {{ allow_files = [".env"] }}\n{text}')
    assert preflight(spot).returncode == 0


def preflight(spot: Spot) -> subprocess.CompletedProcess[str]:
    """Check a launch of the tree as it is."""
    return subprocess.run(
        spot.command("--allow-dirty", "--preflight-only"),
        env=spot.env(),
        cwd=spot.work,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
