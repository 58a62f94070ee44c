"""An S3 endpoint on 127.0.0.1: moto's, with what AWS documents and moto lacks, and faults to order.

Usage: python tests/lab/s3_server.py
Prints its URL, then serves until its standard input ends, so it never outlives who started it.

Added to moto: each request is atomic (a conditional write is one step, as on S3:
docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html), `If-Match` on
CompleteMultipartUpload (API_CompleteMultipartUpload.html), `x-amz-copy-source-if-match` on
UploadPartCopy (API_UploadPartCopy.html).

GET /_lab/bytes     what was uploaded: {path: bytes}
POST /_lab/faults   {"method", "match", "times", "status"}: the next `times` requests with that
                    method whose path and query hold `match` go wrong; DELETE forgets all faults
POST /_lab/keys     {"id", "status"}: every request that is signed with that access key id goes
                    wrong, until the faults are forgotten
The status is an HTTP status with an optional S3 error code ("409 ConditionalRequestConflict") or
with `html`, for a page as proxies send it ("503 html"), or
drop-before (closed unanswered, nothing done), drop-after (done, closed unanswered), hang (done by
nobody, unanswered), cut (half of the body), reset (the connection breaks in the middle of a
request, with nothing done, or of the answer to a GET).
"""

from __future__ import annotations

import http.client
import json
import re
import socket
import struct
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import unquote

from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.moto_server.werkzeug_app import MotoRequestHandler, create_backend_app
from moto.s3.models import s3_backends
from werkzeug.serving import ThreadedWSGIServer

Environ = dict[str, Any]
App = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]

ERROR = '<?xml version="1.0"?><Error><Code>{}</Code><Message>ordered by a test</Message></Error>'
PAGE = "<!DOCTYPE html><html><head><title>Sign in</title><body><p>Who are you?<br></body></html>"
SIGNED_BY = re.compile(r"Credential=([^/]+)/")
HANG = 120  # seconds; longer than any client waits
RESET = struct.pack("ii", 1, 0)  # a struct linger, by which close(2) sends RST: socket(7)


class Lab:
    """WSGI middleware around moto."""

    def __init__(self, moto: App) -> None:
        self._moto = moto
        self._lock = threading.Lock()
        self._bytes: Counter[str] = Counter()
        self._faults: list[dict[str, Any]] = []
        self._keys: dict[str, str] = {}

    def __call__(self, environ: Environ, start: Callable[..., Any]) -> Iterable[bytes]:
        if environ["PATH_INFO"].startswith("/_lab/"):
            return self._control(environ, start)
        fault = self._fault(environ)
        if fault == "reset" and environ["REQUEST_METHOD"] != "GET":
            return self.break_off(environ)
        if fault and fault not in ("drop-after", "cut", "reset"):
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        if fault in ("drop-before", "hang"):
            if fault == "hang":
                threading.Event().wait(HANG)
            return self.drop(environ)
        if fault[:1].isdigit():
            return self._refuse(start, fault)
        with self._lock:
            if problem := self._unmet(environ):
                return self._refuse(start, problem)
            answer: list[Any] = []
            body = b"".join(self._moto(environ, lambda *given: answer.extend(given)))
            if answer[0].startswith("2"):
                self._count(environ)
        if fault == "drop-after":
            return self.drop(environ)
        if fault == "reset":
            return self.break_off(environ, start, answer, body)
        start(*answer)
        return [body[: len(body) // 2] if fault == "cut" else body]

    def _control(self, environ: Environ, start: Callable[..., Any]) -> Iterable[bytes]:
        with self._lock:
            if environ["REQUEST_METHOD"] == "POST":
                length = int(environ["CONTENT_LENGTH"])
                order = json.loads(environ["wsgi.input"].read(length))
                if environ["PATH_INFO"].endswith("/keys"):
                    self._keys[order["id"]] = order["status"]
                else:
                    self._faults.append(order)
            elif environ["REQUEST_METHOD"] == "DELETE":
                self._faults.clear()
                self._keys.clear()
            body = json.dumps(self._bytes).encode()
        start("200 OK", [("Content-Length", str(len(body)))])
        return [body]

    def _fault(self, environ: Environ) -> str:
        target = f"{environ['PATH_INFO']}?{environ['QUERY_STRING']}"
        signed = SIGNED_BY.search(environ.get("HTTP_AUTHORIZATION", ""))
        with self._lock:
            if signed and signed[1] in self._keys:
                return self._keys[signed[1]]
            for fault in self._faults:
                due = fault["times"] > 0 and fault["match"] in target
                if due and fault["method"] == environ["REQUEST_METHOD"]:
                    fault["times"] -= 1
                    return str(fault["status"])
        return ""

    def _unmet(self, environ: Environ) -> str:
        """Return the error for a condition that AWS checks and moto does not."""
        if "uploadId=" not in environ["QUERY_STRING"]:
            return ""
        if environ["REQUEST_METHOD"] == "POST":
            expected = environ.get("HTTP_IF_MATCH")
            path = environ["PATH_INFO"].encode("latin-1").decode()  # PEP 3333
        else:
            expected = environ.get("HTTP_X_AMZ_COPY_SOURCE_IF_MATCH")
            path = unquote(environ.get("HTTP_X_AMZ_COPY_SOURCE", ""))
        if expected is None:
            return ""
        bucket, _, key = path.lstrip("/").partition("/")
        found = s3_backends[DEFAULT_ACCOUNT_ID]["aws"].get_object(bucket, key)
        if found is None:
            return "404 NoSuchKey"
        same = found.etag.strip('"') == expected.strip('"')
        return "" if same else "412 PreconditionFailed"

    def _count(self, environ: Environ) -> None:
        length = environ.get("HTTP_X_AMZ_DECODED_CONTENT_LENGTH") or environ.get("CONTENT_LENGTH")
        if environ["REQUEST_METHOD"] == "PUT":
            self._bytes[environ["PATH_INFO"].encode("latin-1").decode()] += int(length or 0)

    def _refuse(self, start: Callable[..., Any], problem: str) -> Iterable[bytes]:
        status, _, code = problem.partition(" ")
        body = ERROR.format(code or http.client.responses[int(status)].replace(" ", "")).encode()
        kind = "application/xml"
        if code == "html":
            body, kind = PAGE.encode(), "text/html"
        reason = http.client.responses[int(status)]
        start(f"{status} {reason}", [("Content-Length", str(len(body))), ("Content-Type", kind)])
        return [body]

    def drop(self, environ: Environ) -> Iterable[bytes]:
        """Close a connection without an answer."""
        environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
        raise ConnectionAbortedError

    def break_off(
        self,
        environ: Environ,
        start: Callable[..., Any] | None = None,
        answer: Iterable[Any] = (),
        body: bytes = b"",
    ) -> Iterable[bytes]:
        """Reset a connection in the middle of its request, or of a body that is answered."""
        environ["werkzeug.socket"].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        if start is None or not body:
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0) // 2)
            raise ConnectionAbortedError
        start(*answer)
        return [body[: len(body) // 2]]


class Handler(MotoRequestHandler):
    """moto's, which keeps metadata names as they are, and without a line per request."""

    def log_request(self, *_: object) -> None:
        """Say nothing."""

    def connection_dropped(self, *_: object) -> None:
        """End with the request: what is left of it is no other one."""
        self.close_connection = True


class Server(ThreadedWSGIServer):
    """Answers each request in a thread, and can reset its connection."""

    def shutdown_request(self, request: Any) -> None:
        """Close a connection; one that is to be reset must not end in order before that."""
        try:
            linger = request.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, len(RESET))
        except OSError:  # it is closed already
            linger = b""
        if linger == RESET:
            self.close_request(request)
        else:
            super().shutdown_request(request)


def main() -> None:
    """Serve until standard input ends."""
    server = Server("127.0.0.1", 0, Lab(create_backend_app("s3")), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    sys.stdin.buffer.read()


if __name__ == "__main__":
    main()
