"""The client's side of a control socket: HTTP over a unix socket, blocking, with nothing loaded that it does not need."""

from __future__ import annotations

import http.client
import json
import os
import socket
from pathlib import Path
from typing import Any


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("ocs", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        """Connect to the path instead of a host."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(os.fspath(self._path))


def get_text(path: Path, target: str, timeout_s: float) -> str:
    """The body of a successful GET; `OSError` if nobody answers in time or with success, also if it is no HTTP."""
    connection = UnixConnection(path, timeout_s)
    try:
        connection.request("GET", target)
        answer = connection.getresponse()
        body = answer.read()
    except http.client.HTTPException as error:
        raise OSError(f"{path}: {type(error).__name__}") from None
    finally:
        connection.close()
    if answer.status != http.client.OK:
        raise OSError(f"{path}: status {answer.status}")
    return body.decode()


def get_json(path: Path, target: str, timeout_s: float) -> dict[str, Any]:
    """The object that a GET brings; `OSError` as `get_text`, `ValueError` if it is no JSON."""
    found: dict[str, Any] = json.loads(get_text(path, target, timeout_s))
    return found
