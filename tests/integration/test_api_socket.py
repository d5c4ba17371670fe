"""The control socket: who may connect, who is told to be connected, and what becomes of socket files left behind."""

from __future__ import annotations

import asyncio
import getpass
import os
import socket
import stat
from pathlib import Path
from typing import Any

import httpx
import pytest

from ocs.api import peer
from ocs.api.unix_server import ControlSocketError, ControlSocketInUse, UnixServer, bind_control_socket
from tests.support.operate_kit import KitRuntime, served


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the socket is put."""
    return tmp_path / "control.sock"


def ask(path: Path, method: str, url: str, body: Any = None) -> httpx.Response:
    """One request over the socket."""
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), base_url="http://ocs") as client:
        return client.request(method, url, json=body)


def test_the_socket_file_never_has_a_wider_mode_than_0600(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modes: list[int] = []
    bind = socket.socket.bind

    def watched(self: socket.socket, address: Any) -> None:
        bind(self, address)
        modes.append(stat.S_IMODE(path.stat().st_mode))

    monkeypatch.setattr(socket.socket, "bind", watched)
    before = os.umask(0)
    try:
        bind_control_socket(path).close()
    finally:
        os.umask(before)
    assert modes == [0o600]


def test_a_change_is_signed_with_the_name_that_the_kernel_tells(path: Path) -> None:
    runtime = KitRuntime()
    with served(runtime, path):
        answer = ask(path, "POST", "/v1/accounts", {"account": "a", "currency": "EUR", "reason": "x"})
        assert answer.status_code == 201
        ledger = ask(path, "GET", "/v1/accounts/a/ledger").json()
    assert [event["who"] for event in ledger["items"]] == [getpass.getuser()]


def test_a_connection_of_which_the_kernel_tells_nothing_is_closed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(descriptor: int) -> str:
        raise OSError("no credentials")

    monkeypatch.setattr("ocs.api.unix_server.peer_of_socket", fails)
    with served(KitRuntime(), path), pytest.raises(httpx.TransportError):
        ask(path, "GET", "/v1/health")


def test_a_user_without_a_name_is_told_by_number() -> None:
    assert peer.user_name(2**31 - 7) == f"uid:{2**31 - 7}"


def test_the_socket_is_removed_at_the_end(path: Path) -> None:
    with served(KitRuntime(), path):
        assert ask(path, "GET", "/v1/health").status_code == 200
    assert not path.exists()


def test_the_socket_of_another_is_not_removed_at_the_end(path: Path) -> None:
    with served(KitRuntime(), path):
        path.unlink()
        other = bind_control_socket(path)
    assert path.exists()
    other.close()


def test_a_socket_file_that_nobody_listens_on_is_replaced(path: Path) -> None:
    left_behind = bind_control_socket(path)
    left_behind.close()
    assert path.exists()
    with served(KitRuntime(), path):
        assert ask(path, "GET", "/v1/health").status_code == 200


def test_a_socket_that_answers_is_not_touched(path: Path) -> None:
    with served(KitRuntime(), path):
        with pytest.raises(ControlSocketInUse, match="another process listens there"):
            bind_control_socket(path)
        assert ask(path, "GET", "/v1/health").status_code == 200


def test_a_file_that_is_no_socket_is_not_touched(path: Path) -> None:
    path.write_text("mine")
    with pytest.raises(ControlSocketError, match="is not a socket"):
        bind_control_socket(path)
    assert path.read_text() == "mine"


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ControlSocketError, match="No such file"):
        bind_control_socket(tmp_path / "none" / "control.sock")


def test_many_clients_are_answered_side_by_side(path: Path) -> None:
    async def one(client: httpx.AsyncClient, number: int) -> int:
        body = {"account": f"a{number}", "currency": "EUR", "reason": "x"}
        return (await client.post("/v1/accounts", json=body)).status_code

    async def all_of_them() -> list[int]:
        transport = httpx.AsyncHTTPTransport(uds=str(path))
        async with httpx.AsyncClient(transport=transport, base_url="http://ocs") as client:
            return await asyncio.gather(*(one(client, number) for number in range(20)))

    runtime = KitRuntime()
    with served(runtime, path):
        assert asyncio.run(all_of_them()) == [201] * 20


def test_stopping_a_server_that_never_started_does_nothing(path: Path) -> None:
    asyncio.run(UnixServer(None, path).stop())
    assert not path.exists()
