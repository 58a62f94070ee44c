"""TLS with a store: a handshake that fails passes, a certificate that does not verify does not."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from shim.errors import PreflightError
from shim.store import open_store


@pytest.fixture
def plain() -> Iterator[int]:
    """A port that ends each connection after a few bytes that are no TLS."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    client, _ = server.accept()
                except OSError:
                    return
                with client:
                    client.recv(1024)
                    client.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def stranger(tmp_path: Path) -> Iterator[int]:
    """A port that speaks TLS with a certificate that nobody has signed."""
    made = ("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-subj", "/CN=localhost", "-keyout", "key", "-out", "certificate")  # fmt: skip
    subprocess.run(["openssl", *made], cwd=tmp_path, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "certificate", tmp_path / "key")
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    client, _ = server.accept()
                    context.wrap_socket(client, server_side=True).close()
                except ssl.SSLError:
                    continue
                except OSError:
                    return

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


def test_a_handshake_that_fails_passes(plain: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """I51: as that with a load balancer without a server behind it."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"https://127.0.0.1:{plain}")

    with pytest.raises(PreflightError) as error:
        open_store("s3://bucket").put("a", b"x")

    assert error.value.passing
    assert "AWS_ENDPOINT_URL" in error.value.hint


@pytest.mark.parametrize("bundle", ["", "/nowhere/at/all.pem"])
def test_a_certificate_that_does_not_verify_does_not_pass(
    stranger: int, monkeypatch: pytest.MonkeyPatch, bundle: str
) -> None:
    """I51: waiting does not mend it, nor a bundle that is not there; 69, with what to look at."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"https://localhost:{stranger}")
    if bundle:
        monkeypatch.setenv("AWS_CA_BUNDLE", bundle)

    with pytest.raises(PreflightError) as error:
        open_store("s3://bucket").put("a", b"x")

    assert not error.value.passing
    assert "AWS_CA_BUNDLE" in error.value.hint
