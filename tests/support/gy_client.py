"""A Gy client for tests: requests from keyword arguments, raw octets when a test wants them, answers as plain facts.

`Requests` only builds octets; `GyClient` carries them over TCP. Both write with the product's encoder, because what
they assert is the charging, not the codec (which has foreign witnesses of its own).
"""

from __future__ import annotations

import itertools
import socket
import struct
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from protocols.diameter import dictionary as d
from protocols.diameter.avp import Message, decode_message, encode_avp, encode_message, every, first
from protocols.diameter.header import (
    APPLICATION_CREDIT_CONTROL,
    CAPABILITIES_EXCHANGE,
    CREDIT_CONTROL,
    DEVICE_WATCHDOG,
    DISCONNECT_PEER,
    FLAG_PROXIABLE,
    FLAG_REQUEST,
    FLAG_RETRANSMIT,
)

MIB = 1_048_576
INITIAL, UPDATE, TERMINATION, EVENT = 1, 2, 3, 4
DIRECT_DEBITING, REFUND_ACCOUNT, CHECK_BALANCE, PRICE_ENQUIRY = 0, 1, 2, 3
E164, IMSI, SIP_URI, NAI, PRIVATE = 0, 1, 2, 3, 4
THRESHOLD, QHT, FINAL, QUOTA_EXHAUSTED, VALIDITY_TIME, OTHER_QUOTA_TYPE, RATING_CONDITION_CHANGE, FORCED = range(8)

Pairs = list[tuple[int, Any]]

_UNITS = {
    "time": d.CC_TIME,
    "total": d.CC_TOTAL_OCTETS,
    "input": d.CC_INPUT_OCTETS,
    "output": d.CC_OUTPUT_OCTETS,
    "events": d.CC_SERVICE_SPECIFIC_UNITS,
}


def units(*, money: tuple[int, int, int | None] | None = None, reason: int | None = None, **amounts: int) -> Pairs:
    """Members of a Requested- or Used-Service-Unit.

    `units(total=10 * MIB)`; names: time, total, input, output, events. `money` is (Value-Digits, Exponent,
    Currency-Code).
    """
    members: Pairs = [] if reason is None else [(d.REPORTING_REASON, reason)]
    if money is not None:
        members.append((d.CC_MONEY, cc_money(*money)))
    return members + [(_UNITS[name], amount) for name, amount in amounts.items()]


def cc_money(digits: int, exponent: int = 0, currency: int | None = 978) -> Pairs:
    """Members of a CC-Money."""
    value: Pairs = [(d.VALUE_DIGITS, digits)]
    if exponent:
        value.append((d.EXPONENT, exponent))
    money: Pairs = [(d.UNIT_VALUE, value)]
    if currency is not None:
        money.append((d.CURRENCY_CODE, currency))
    return money


def mscc(
    rating_group: int | None = 100,
    *,
    services: Iterable[int] = (),
    requested: Pairs | None = None,
    used: Sequence[Pairs] = (),
    reason: int | None = None,
    extra: Iterable[tuple[int, Any]] = (),
) -> tuple[int, Pairs]:
    """A Multiple-Services-Credit-Control: `requested=[]` is an empty Requested-Service-Unit, `None` is none."""
    members: Pairs = []
    if requested is not None:
        members.append((d.REQUESTED_SERVICE_UNIT, requested))
    members += [(d.USED_SERVICE_UNIT, one) for one in used]
    members += [(d.SERVICE_IDENTIFIER, one) for one in services]
    if rating_group is not None:
        members.append((d.RATING_GROUP, rating_group))
    if reason is not None:
        members.append((d.REPORTING_REASON, reason))
    members += extra
    return (d.MULTIPLE_SERVICES_CREDIT_CONTROL, members)


def subscription(kind: int, data: str) -> tuple[int, Pairs]:
    """A Subscription-Id."""
    return (d.SUBSCRIPTION_ID, [(d.SUBSCRIPTION_ID_TYPE, kind), (d.SUBSCRIPTION_ID_DATA, data)])


def sms_information(messages_sent: int | None = None, recipients: Sequence[str] = ()) -> tuple[int, Pairs]:
    """A Service-Information with SMS-Information."""
    sms: Pairs = [] if messages_sent is None else [(d.NUMBER_OF_MESSAGES_SENT, messages_sent)]
    for number in recipients:
        address = [(d.ADDRESS_TYPE, 1), (d.ADDRESS_DATA, number)]
        sms.append((d.RECIPIENT_INFO, [(d.RECIPIENT_ADDRESS, address)]))
    return (d.SERVICE_INFORMATION, [(d.SMS_INFORMATION, sms)])


def proxy_info(host: str, state: bytes) -> bytes:
    """A ready Proxy-Info."""
    return bytes(encode_avp(d.PROXY_INFO, [(d.PROXY_HOST, host), (d.PROXY_STATE, state)]))


class Requests:
    """Builds the requests of one gateway."""

    def __init__(
        self,
        origin_host: str = "gw1.example.net",
        origin_realm: str = "example.net",
        destination_realm: str = "example.com",
        destination_host: str | None = None,
        origin_state_id: int | None = None,
    ) -> None:
        self.origin_host = origin_host
        self.origin_realm = origin_realm
        self.destination_realm = destination_realm
        self.destination_host = destination_host
        self.origin_state_id = origin_state_id
        self._identifiers = itertools.count(1)

    def ccr(
        self,
        kind: int,
        number: int,
        session: str,
        *services: tuple[int, Any],
        msisdn: str | None = "447700900123",
        context: str = "32251@3gpp.org",
        action: int | None = None,
        event_time_s: int | None = None,
        several: int | None = 1,
        cause: int | None = None,
        extra: Iterable[tuple[int, Any] | tuple[int, int, Any] | bytes] = (),
        without: Iterable[int] = (),
        retransmit: bool = False,
        hop_by_hop: int | None = None,
        end_to_end: int | None = None,
        application: int = APPLICATION_CREDIT_CONTROL,
        flags: int = FLAG_REQUEST | FLAG_PROXIABLE,
    ) -> bytes:
        """A CCR in the order of TS 32.299.

        `services` are `mscc(...)`; `without` leaves out AVPs by key; `extra` is added at the end as it is.
        """
        items: list[Any] = [
            (d.SESSION_ID, session),
            (d.ORIGIN_HOST, self.origin_host),
            (d.ORIGIN_REALM, self.origin_realm),
            (d.DESTINATION_REALM, self.destination_realm),
            (d.AUTH_APPLICATION_ID, 4),
            (d.SERVICE_CONTEXT_ID, context),
            (d.CC_REQUEST_TYPE, kind),
            (d.CC_REQUEST_NUMBER, number),
        ]
        optional = [
            (d.DESTINATION_HOST, self.destination_host),
            (d.ORIGIN_STATE_ID, self.origin_state_id),
            (d.EVENT_TIMESTAMP, event_time_s),
        ]
        items += [(key, value) for key, value in optional if value is not None]
        if msisdn is not None:
            items.append(subscription(E164, msisdn))
        optional = [
            (d.TERMINATION_CAUSE, cause if cause is not None or kind != TERMINATION else 1),
            (d.REQUESTED_ACTION, action),
            (d.MULTIPLE_SERVICES_INDICATOR, several if services else None),
        ]
        items += [(key, value) for key, value in optional if value is not None]
        items += services
        left_out = set(without)
        items = [item for item in items if item[0] not in left_out]
        items += extra
        return self.message(
            CREDIT_CONTROL,
            application,
            flags | (FLAG_RETRANSMIT if retransmit else 0),
            items,
            hop_by_hop=hop_by_hop,
            end_to_end=end_to_end,
        )

    def message(
        self,
        command: int,
        application: int,
        flags: int,
        items: Iterable[Any],
        *,
        hop_by_hop: int | None = None,
        end_to_end: int | None = None,
    ) -> bytes:
        """Any message, with identifiers of its own unless given."""
        identifier = next(self._identifiers)
        return bytes(
            encode_message(
                command,
                application,
                flags,
                identifier if hop_by_hop is None else hop_by_hop,
                identifier if end_to_end is None else end_to_end,
                items,
            )
        )

    def cer(self, applications: Sequence[int] = (4,), extra: Iterable[Any] = ()) -> bytes:
        """A CER."""
        items = [
            (d.ORIGIN_HOST, self.origin_host),
            (d.ORIGIN_REALM, self.origin_realm),
            (d.HOST_IP_ADDRESS, (1, "127.0.0.1")),
            (d.VENDOR_ID, 10415),
            (d.PRODUCT_NAME, "gy-client"),
            *([] if self.origin_state_id is None else [(d.ORIGIN_STATE_ID, self.origin_state_id)]),
            *((d.AUTH_APPLICATION_ID, one) for one in applications),
            *extra,
        ]
        return self.message(CAPABILITIES_EXCHANGE, 0, FLAG_REQUEST, items)

    def dwr(self) -> bytes:
        """A DWR."""
        items: Pairs = [(d.ORIGIN_HOST, self.origin_host), (d.ORIGIN_REALM, self.origin_realm)]
        if self.origin_state_id is not None:
            items.append((d.ORIGIN_STATE_ID, self.origin_state_id))
        return self.message(DEVICE_WATCHDOG, 0, FLAG_REQUEST, items)

    def success(self, request: Message) -> bytes:
        """The DWA to a DWR of the server, the DPA to its DPR."""
        items: Pairs = [
            (d.RESULT_CODE, 2001),
            (d.ORIGIN_HOST, self.origin_host),
            (d.ORIGIN_REALM, self.origin_realm),
        ]
        identifiers = {"hop_by_hop": request.hop_by_hop, "end_to_end": request.end_to_end}
        return self.message(request.command, 0, 0, items, **identifiers)

    def dpr(self, cause: int = 0) -> bytes:
        """A DPR."""
        items = [
            (d.ORIGIN_HOST, self.origin_host),
            (d.ORIGIN_REALM, self.origin_realm),
            (d.DISCONNECT_CAUSE, cause),
        ]
        return self.message(DISCONNECT_PEER, 0, FLAG_REQUEST, items)


class FinalUnit(NamedTuple):
    """A Final-Unit-Indication."""

    action: int
    redirect_type: int | None
    redirect_address: str | None
    filter_rules: tuple[str, ...]
    filter_ids: tuple[str, ...]


class ServiceAnswer(NamedTuple):
    """One Multiple-Services-Credit-Control of an answer, or the units at command level."""

    rating_group: int | None
    services: tuple[int, ...]
    result_code: int | None
    granted: dict[str, Any] | None
    """By the names of `units`, and `money` as (digits, exponent, currency); `None`: no Granted-Service-Unit."""
    validity_s: int | None
    final: FinalUnit | None
    volume_threshold: int | None
    time_threshold: int | None
    unit_threshold: int | None
    refund: bytes | None


class Answer:
    """A CCA, CEA, DWA, DPA or error answer."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.message: Message = decode_message(data)
        assert self.message.errors == [], self.message.errors
        assert not self.message.is_request

    def get(self, key: int) -> Any:
        """Value of the first AVP with a key, `None` if absent."""
        return first(self.message.avps, key)

    def all(self, key: int) -> list[Any]:
        """Values of all AVPs with a key."""
        return every(self.message.avps, key)

    @property
    def code(self) -> int:
        """Result-Code of the command."""
        value = self.get(d.RESULT_CODE)
        assert isinstance(value, int)
        return value

    @property
    def keys(self) -> list[int]:
        """Keys of the AVPs in their order."""
        return [key for key, _flags, _value in self.message.avps]

    @property
    def services(self) -> list[ServiceAnswer]:
        """Every Multiple-Services-Credit-Control."""
        return [_service(members) for members in self.all(d.MULTIPLE_SERVICES_CREDIT_CONTROL)]

    @property
    def service(self) -> ServiceAnswer:
        """The only Multiple-Services-Credit-Control."""
        (only,) = self.services
        return only

    @property
    def command_units(self) -> ServiceAnswer:
        """What stands at command level."""
        return _service(self.message.avps)

    @property
    def cost(self) -> tuple[int, int, int | None] | None:
        """Cost-Information as (Value-Digits, Exponent, Currency-Code)."""
        return _money(self.get(d.COST_INFORMATION))

    @property
    def remaining_balance(self) -> tuple[int, int, int | None] | None:
        """Remaining-Balance as (Value-Digits, Exponent, Currency-Code)."""
        return _money(self.get(d.REMAINING_BALANCE))

    @property
    def failed(self) -> list[tuple[int, Any]]:
        """The innermost AVPs of all Failed-AVPs, without the groups that lead to a single member."""
        leaves = []
        for members in self.all(d.FAILED_AVP):
            for key, _flags, value in members:
                leaves.append(_leaf(key, value))
        return leaves


def _leaf(key: int, value: Any) -> tuple[int, Any]:
    while isinstance(value, list) and len(value) == 1:
        key, _flags, value = value[0]
    return key, value


def _service(avps: Any) -> ServiceAnswer:
    granted = first(avps, d.GRANTED_SERVICE_UNIT)
    final = first(avps, d.FINAL_UNIT_INDICATION)
    return ServiceAnswer(
        first(avps, d.RATING_GROUP),
        tuple(every(avps, d.SERVICE_IDENTIFIER)),
        first(avps, d.RESULT_CODE),
        None if granted is None else _granted(granted),
        first(avps, d.VALIDITY_TIME),
        None if final is None else _final(final),
        first(avps, d.VOLUME_QUOTA_THRESHOLD),
        first(avps, d.TIME_QUOTA_THRESHOLD),
        first(avps, d.UNIT_QUOTA_THRESHOLD),
        first(avps, d.REFUND_INFORMATION),
    )


def _granted(members: Any) -> dict[str, Any]:
    names = {key: name for name, key in _UNITS.items()}
    granted: dict[str, Any] = {names[key]: value for key, _flags, value in members if key in names}
    money = first(members, d.CC_MONEY)
    if money is not None:
        granted["money"] = _money(money)
    return granted


def _final(members: Any) -> FinalUnit:
    server = first(members, d.REDIRECT_SERVER) or []
    return FinalUnit(
        first(members, d.FINAL_UNIT_ACTION),
        first(server, d.REDIRECT_ADDRESS_TYPE),
        first(server, d.REDIRECT_SERVER_ADDRESS),
        tuple(every(members, d.RESTRICTION_FILTER_RULE)),
        tuple(every(members, d.FILTER_ID)),
    )


def _money(members: Any) -> tuple[int, int, int | None] | None:
    if members is None:
        return None
    value = first(members, d.UNIT_VALUE)
    return first(value, d.VALUE_DIGITS), first(value, d.EXPONENT) or 0, first(members, d.CURRENCY_CODE)


class GyClient:
    """One TCP connection of a gateway; blocking, one request at a time unless `send` and `receive` are used alone."""

    def __init__(self, address: tuple[str, int], requests: Requests | None = None, timeout_s: float = 10.0) -> None:
        self.requests = requests or Requests()
        self._socket = socket.create_connection(address, timeout_s)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""

    def __enter__(self) -> GyClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket without a DPR."""
        self._socket.close()

    def open(self, applications: Sequence[int] = (4,)) -> Answer:
        """Exchange capabilities; the CEA."""
        return self.exchange(self.requests.cer(applications))

    def exchange(self, data: bytes) -> Answer:
        """Send octets and receive one answer, which must carry the same identifiers."""
        self.send(data)
        answer = self.receive()
        assert (answer.message.hop_by_hop, answer.message.end_to_end) == struct.unpack_from(">II", data, 12)
        return answer

    def ccr(self, kind: int, number: int, session: str, *services: tuple[int, Any], **options: Any) -> Answer:
        """Send `Requests.ccr` and receive its answer."""
        return self.exchange(self.requests.ccr(kind, number, session, *services, **options))

    def send(self, data: bytes) -> None:
        """Send octets as they are."""
        self._socket.sendall(data)

    def receive(self) -> Answer:
        """The next answer; a DWR or DPR that comes before it is answered. `ConnectionError` if the server closed."""
        while True:
            data = self.receive_octets()
            message = decode_message(data)
            if not message.is_request:
                return Answer(data)
            known = message.command in (DEVICE_WATCHDOG, DISCONNECT_PEER)
            assert known, f"request {message.command} instead of an answer"
            self.send(self.requests.success(message))

    def fileno(self) -> int:
        """For `select`."""
        return self._socket.fileno()

    def take_socket(self) -> socket.socket:
        """The socket itself, for one who reads and writes it from now on; the client still closes it."""
        assert not self._buffer
        return self._socket

    def has_message(self) -> bool:
        """Whether a whole message has been received beyond the last one that was taken."""
        return len(self._buffer) >= 20 and len(self._buffer) >= int.from_bytes(self._buffer[1:4], "big")

    def receive_octets(self) -> bytes:
        """The octets of the next message."""
        self._fill(20)
        length = int.from_bytes(self._buffer[1:4], "big")
        self._fill(length)
        data, self._buffer = self._buffer[:length], self._buffer[length:]
        return data

    def _fill(self, octets: int) -> None:
        while len(self._buffer) < octets:
            chunk = self._socket.recv(65536)
            if not chunk:
                raise ConnectionError("the server closed the connection")
            self._buffer += chunk
