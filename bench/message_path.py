"""The worker's way of a CCR without its engine: octets from the socket to octets for the socket, in one process.

Sockets and the loop are stand-ins that do nothing, the engine is one that grants at once; all between is the product's.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, cast

from bench.micro.codec import Pairs, encode, initial_request, load_codec, update_request
from ocs.charging.requests import ChargingRequest, Outcome, QuotaKey, Result, ServiceOutcome, UnitKind
from ocs.servers.diameter_server import DiameterServer, connection_of
from ocs.servers.diameter_settings import DiameterSettings
from ocs.servers.gy import GySettings
from ocs.servers.gy_application import GyApplication
from protocols.diameter import dictionary as d
from protocols.diameter import header
from protocols.diameter.answers import Local
from protocols.diameter.avp import encode_message

LOCAL = Local("ocs.example.net", "ocs.example.net", 1_700_000_000)
GY = GySettings(service_contexts=frozenset({"32251@3gpp.org"}))
GRANT = Outcome(
    Result.SUCCESS,
    (ServiceOutcome(QuotaKey(100), Result.SUCCESS, UnitKind.OCTETS, 10_485_760, 3600, 1_048_576),),
    5_000,
    1_000_000,
    978,
)


def update_of_a_gateway() -> bytes:
    """A CCR-U as a PGW sends it: one MSCC, two Subscription-Ids, PS-Information."""
    information = [avp for avp in initial_request() if avp[0] == d.SERVICE_INFORMATION]
    avps: Pairs = [*update_request(), *information]
    return encode(load_codec("cython_ext._avp"), header.FLAG_REQUEST, avps)


class MessagePath:
    """One open connection to a server."""

    def __init__(self) -> None:
        loop: Any = _Loop()
        engine: Any = _Engine()
        application = GyApplication(engine, lambda: GY, LOCAL, loop.time, 2.0, lambda _message, _error: None)
        server = DiameterServer(DiameterSettings(), LOCAL, application.handle, rng=random.Random(1), log=_Silent())
        server.loop = loop
        self._loop = loop
        self._transport = _Transport()
        self._connection = connection_of(server)
        self._connection.connection_made(cast(Any, self._transport))
        self.exchange(cer())

    def exchange(self, data: bytes) -> list[bytes]:
        """Take what one read of the socket gave; what is written for it by the end of the loop's turn."""
        self._connection.data_received(data)
        self._loop.turn()
        return self._transport.take()


def cer() -> bytes:
    """The CER of the gateway that sends `update_of_a_gateway`."""
    avps = [
        (d.ORIGIN_HOST, "gw1.example.net"),
        (d.ORIGIN_REALM, "example.net"),
        (d.HOST_IP_ADDRESS, (1, "127.0.0.1")),
        (d.VENDOR_ID, 0),
        (d.PRODUCT_NAME, "gateway"),
        (d.AUTH_APPLICATION_ID, header.APPLICATION_CREDIT_CONTROL),
    ]
    return bytes(encode_message(header.CAPABILITIES_EXCHANGE, 0, header.FLAG_REQUEST, 1, 1, avps))


class _Engine:
    def charge(self, _request: ChargingRequest, _deadline: float, done: Callable[[Outcome], None]) -> None:
        done(GRANT)


class _Loop:
    def __init__(self) -> None:
        self._calls: list[tuple[Callable[..., None], tuple[Any, ...]]] = []

    def time(self) -> float:
        return 5.0

    def call_soon(self, call: Callable[..., None], *arguments: Any) -> None:
        self._calls.append((call, arguments))

    def call_at(self, _when: float, _call: Callable[..., None], *_arguments: Any) -> object:
        return self

    def cancel(self) -> None:
        """As a timer does."""

    def turn(self) -> None:
        calls, self._calls = self._calls, []
        for call, arguments in calls:
            call(*arguments)


class _Transport:
    def __init__(self) -> None:
        self._written: list[bytes] = []

    def take(self) -> list[bytes]:
        written, self._written = self._written, []
        return written

    def get_extra_info(self, name: str) -> Any:
        return self if name == "socket" else ("127.0.0.1", 3868)

    def setsockopt(self, *_arguments: object) -> None:
        """As a socket does."""

    def is_closing(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0

    def write(self, data: bytes) -> None:
        self._written.append(data)


class _Silent:
    def info(self, _text: str, **_facts: object) -> None:
        """Say nothing."""

    warning = error = info
