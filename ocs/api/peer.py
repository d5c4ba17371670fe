"""Who sits at the other end of a unix socket: the kernel says, not the client."""

from __future__ import annotations

import os
import pwd
import socket
import struct
from collections.abc import Mapping
from typing import Any

from ocs.charging.operations import OperationRefused

EXTENSION = "ocs.peer"
"""Key of the peer's name among the extensions of an ASGI scope."""

_CREDENTIALS = struct.Struct("iII")
"""`struct ucred` of Linux: process, user, group."""


def user_name(uid: int) -> str:
    """Name of a user of this machine, `uid:1234` for one without a name."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid:{uid}"


def peer_of_socket(descriptor: int) -> str:
    """Name of the user whose process connected a unix socket (SO_PEERCRED); `OSError` if it is no unix socket."""
    with socket.socket(fileno=os.dup(descriptor)) as connection:
        data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, uid, _ = _CREDENTIALS.unpack(data)
    return user_name(uid)


def peer_of_scope(scope: Mapping[str, Any]) -> str:
    """Who sent a request; refused if the connection does not say, since every change is signed with a name."""
    name = scope.get("extensions", {}).get(EXTENSION)
    if not isinstance(name, str) or not name:
        raise OperationRefused("forbidden", "who", "changes are accepted over the control socket only")
    return name


class WithPeer:
    """An ASGI application whose requests all come from one known user."""

    def __init__(self, app: Any, peer: str) -> None:
        self._app = app
        self._peer = peer

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Add the name to the scope and pass the request on."""
        if scope["type"] == "http":
            scope = {**scope, "extensions": {**scope.get("extensions", {}), EXTENSION: self._peer}}
        await self._app(scope, receive, send)
