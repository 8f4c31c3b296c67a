"""An S3 on loopback: moto's, whose buckets everybody may read or not, and which accepts every key unless told."""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass

from moto import settings
from moto.server import ThreadedMotoServer

KEY, SECRET = "AKIATESTKEY", "test-secret"

_numbers = itertools.count()


@dataclass
class S3:
    """One server. `bucket()` makes a new bucket and returns its name."""

    endpoint: str

    def bucket(self, readable: bool = True, listed: bool = False) -> str:
        name = f"iota-test-{next(_numbers)}"
        self.ask("PUT", f"/{name}")
        actions = {"s3:GetObject": readable, "s3:ListBucket": listed}
        statements = [
            {"Effect": "Allow" if allowed else "Deny", "Principal": "*", "Action": action, "Resource": where}
            for action, allowed in actions.items()
            for where in (f"arn:aws:s3:::{name}", f"arn:aws:s3:::{name}/*")
        ]
        body = json.dumps({"Version": "2012-10-17", "Statement": statements}).encode()
        self.ask("PUT", f"/{name}?policy", body)
        return name

    def ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        request = urllib.request.Request(self.endpoint + path, body, {"Content-Type": "text/plain"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    @contextlib.contextmanager
    def strict(self) -> Iterator[None]:
        """Keys are looked at."""
        before, settings.INITIAL_NO_AUTH_ACTION_COUNT = settings.INITIAL_NO_AUTH_ACTION_COUNT, 0
        try:
            yield
        finally:
            settings.INITIAL_NO_AUTH_ACTION_COUNT = before


@contextlib.contextmanager
def serving() -> Iterator[S3]:
    logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield S3(f"http://{host}:{port}")
    finally:
        server.stop()
