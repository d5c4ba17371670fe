"""One accepted connection without its socket: octets and the time go in, events, octets and the next timer come out.

The owner has four verbs: `receive_data`, handle the events, write `data_to_send`, re-arm `next_timer`. Times are
monotonic seconds of the owner's loop. The states are in `peer_table.py`, the watchdog's in `watchdog.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Any, Protocol

from protocols.diameter import dictionary
from protocols.diameter.answers import (
    base_avps,
    build_answer,
    build_error_answer,
    build_header_error_answer,
)
from protocols.diameter.avp import (
    Message,
    check_grammar,
    decode_message,
    encode_message,
    first,
    result_code_of,
    same_identity,
)
from protocols.diameter.capabilities import (
    CER_GRAMMAR,
    Refused,
    build_cea,
    build_cea_refusal,
    examine_cer,
    origin_state,
    provisioned,
)
from protocols.diameter.counters import PeerCounters, add, message_key
from protocols.diameter.errors import AvpError, LocalProtocolError, RemoteProtocolError, ResultCode, reported
from protocols.diameter.events import (
    CloseTransport,
    Event,
    FramingBroken,
    HealthChanged,
    OriginStateSeen,
    PeerClosed,
    PeerInfo,
    PeerOpened,
    PeerRefused,
    RequestReceived,
    RequestRefused,
)
from protocols.diameter.framing import VERSION, Framer, FramingFault
from protocols.diameter.header import (
    APPLICATION_COMMON,
    CAPABILITIES_EXCHANGE,
    DEVICE_WATCHDOG,
    DISCONNECT_PEER,
    FLAG_ERROR,
    FLAG_REQUEST,
)
from protocols.diameter.identifiers import EndToEndIdentifiers, HopByHopIdentifiers
from protocols.diameter.peer_table import TABLE, Input, State
from protocols.diameter.request_checks import header_error, routing_error
from protocols.diameter.settings import Application, NodeSettings
from protocols.diameter.watchdog import Action, Health, Random, Watchdog

DWR_GRAMMAR = {
    dictionary.ORIGIN_HOST: (1, 1),
    dictionary.ORIGIN_REALM: (1, 1),
    dictionary.ORIGIN_STATE_ID: (0, 1),
}
DPR_GRAMMAR = {
    dictionary.ORIGIN_HOST: (1, 1),
    dictionary.ORIGIN_REALM: (1, 1),
    dictionary.DISCONNECT_CAUSE: (1, 1),
}

REBOOTING, BUSY, DO_NOT_WANT_TO_TALK_TO_YOU = range(3)
"""Disconnect-Cause (RFC 6733 §5.4.3)."""

_BASE_REQUESTS = {CAPABILITIES_EXCHANGE: Input.CER, DEVICE_WATCHDOG: Input.DWR, DISCONNECT_PEER: Input.DPR}
_BASE_ANSWERS = {DEVICE_WATCHDOG: Input.DWA, DISCONNECT_PEER: Input.DPA}
_ANSWERABLE = (State.OPEN, State.CLOSING, State.DEPARTING)
_OPEN, _CLOSED, _REQUEST, _DWA, _OKAY = State.OPEN, State.CLOSED, Input.REQUEST, Input.DWA, Health.OKAY

MAX_RIGHT_HEADERS = 1024
"""Headers that are remembered as right: commands of applications by their flags, so that few are seen."""


class Admission(Enum):
    """What the node says to a good CER."""

    ADMIT = "admit"
    HOLD = "hold"
    REFUSE = "refuse"


class Registry(Protocol):
    """What a peer needs of its node: settings, and what all connections share."""

    settings: NodeSettings
    applications: Mapping[int, Application]
    realms: frozenset[str]
    rng: Random
    end_to_end: EndToEndIdentifiers
    draining: bool
    right_headers: dict[int, int]

    def counters(self, origin_host: str) -> PeerCounters:
        """Counters of an Origin-Host; of strangers with an empty name."""

    def admit(self, peer: Peer, origin_host: str, now: float) -> Admission:
        """Whether a connection of this Origin-Host may open."""

    def opened(self, peer: Peer) -> None:
        """The connection serves its Origin-Host from now on."""

    def heard(self, peer: Peer, now: float) -> None:
        """A probed connection has spoken."""

    def take_over(self, peer: Peer, now: float) -> None:
        """A held connection has waited long enough."""

    def closed(self, peer: Peer, now: float) -> None:
        """The connection is gone."""

    def origin_state_rose(self, origin_host: str, origin_state_id: int) -> bool:
        """Whether an Origin-State-Id is higher than the one known."""

    def refuse(self, message: Message, error: RemoteProtocolError) -> bytes:
        """The answer that an application would give to a request that it is not shown."""


class Peer:
    """The protocol of one connection; made by `Node.accept`."""

    def __init__(self, registry: Registry, source: str, local_address: str, now: float) -> None:
        settings = registry.settings
        self.state = State.WAIT_CER
        self.info: PeerInfo | None = None
        """Set when the connection opens, and kept."""
        self.source = source
        self.owner: Any = None
        """Whatever the owner wants to find again when the node changes a peer from outside."""
        self.probed = False
        """A DWR was sent to find out whether this connection lives (DB-096)."""
        self.counters = registry.counters("")
        self.opened_at: float | None = None
        self.in_flight = 0
        """Requests that the owner has not answered; counted by the owner."""
        self._registry = registry
        self._settings = settings
        self._local_address = local_address
        self._framer = Framer(min(settings.max_cer_octets, settings.max_message_octets))
        self._tolerated: frozenset[int] = frozenset()
        self._events: list[Event] = []
        self._output: list[bytes] = []
        self._hop_by_hop = HopByHopIdentifiers(registry.rng)
        self._pending: dict[int, int] = {}
        self._watchdog: Watchdog | None = None
        self._deadline = now + settings.cer_timeout_s
        self._cer: tuple[Message, PeerInfo] | None = None

    # What the owner calls.

    def receive_data(self, data: bytes, now: float) -> list[Event]:
        """Take octets as the socket gave them; the events that they caused, in order."""
        framer = self._framer
        framer.feed(data)
        if self.state is _OPEN:
            # The limit of the messages' length changes no more.
            self._whole_messages(framer.whole_messages(), now)
        while self.state is not _CLOSED:
            frame = framer.next_frame()
            if frame is None:
                break
            if isinstance(frame, FramingFault):
                self._framing_fault(frame, now)
            else:
                self._message(decode_message(frame, self._tolerated), now)
        return self.take_events()

    def next_timer(self) -> float | None:
        """When `handle_timer` has to be called; `None` after the end."""
        if self.state is State.OPEN and self._watchdog is not None:
            return self._watchdog.deadline
        return None if self.state is State.CLOSED else self._deadline

    def handle_timer(self, now: float) -> list[Event]:
        """Act on time that passed; does nothing before `next_timer`."""
        due = self.next_timer()
        if due is not None and now >= due:
            self._fire(Input.TIMER, "", now)
        return self.take_events()

    def data_to_send(self) -> list[bytes]:
        """Whole messages to write now, in order; each is given once."""
        output, self._output = self._output, []
        return output

    def take_events(self) -> list[Event]:
        """Events that the node caused from outside, since the last call of any verb."""
        events, self._events = self._events, []
        return events

    def send(self, answer: bytes) -> bool:
        """Queue the answer to a request; false if its connection no longer takes any (DB-079)."""
        if self.state is not _OPEN and self.state not in _ANSWERABLE:
            self.counters.dropped_answers += 1
            return False
        self._answer(answer)
        return True

    def close(self, cause: int, now: float) -> list[Event]:
        """Part in order with a DPR; `cause` is a Disconnect-Cause (DB-116). A stranger is cut off."""
        self._fire(Input.STOP, cause, now)
        return self.take_events()

    def abort(self, cause: str, now: float) -> list[Event]:
        """Give the connection up; `cause` is for the log."""
        self._fire(Input.ABORT, cause, now)
        return self.take_events()

    def transport_lost(self, cause: str, now: float) -> list[Event]:
        """Note that the socket is gone."""
        self._fire(Input.LOST, cause, now)
        return self.take_events()

    # What the node calls.

    def probe(self, now: float) -> None:
        """Ask at once whether the peer lives (DB-096)."""
        if self._watchdog is not None and self.state is State.OPEN:
            self.probed = True
            if not self._watchdog.pending:
                self._watchdog.probe()
                self._send_dwr()

    def decide(self, admitted: bool, now: float) -> None:
        """End the waiting of a held connection."""
        self._fire(Input.ADMITTED if admitted else Input.REFUSED, None, now)

    def end(self, cause: str, now: float) -> None:
        """As `abort`, but the events wait for `take_events`."""
        self._fire(Input.ABORT, cause, now)

    # Messages.

    def _fire(self, heard: Input, subject: Any, now: float) -> None:
        step = _STEPS[self.state][heard]
        if step is None:
            raise LocalProtocolError(f"{heard.name} in state {self.state.name}")
        action, self.state = step
        action(self, subject, now)

    def _framing_fault(self, fault: FramingFault, now: float) -> None:
        """DB-006…DB-009: an answer only to what looks like a request of somebody who may send one."""
        header = fault.header
        answered = False
        if header is not None and header.flags & FLAG_REQUEST:
            is_cer = header.version == VERSION and header.command == CAPABILITIES_EXCHANGE
            if self.state in _ANSWERABLE or is_cer:
                self._answer(build_header_error_answer(header, fault.result_code, self._settings.local))
                answered = True
        add(self.counters.decode_errors, fault.result_code)
        origin_host = self.info.origin_host if self.info is not None else ""
        self._events.append(FramingBroken(self.source, origin_host, fault.result_code, answered, fault.fatal))
        if fault.fatal:
            self._fire(Input.BROKEN, "octets that are no Diameter message", now)

    def _whole_messages(self, whole: list[bytes], now: float) -> None:
        """Take messages of an open connection.

        Ordinary requests, which are nearly all, are delivered without the steps that find nothing in them; the end is
        that of `_message` and `_deliver`.
        """
        registry, local = self._registry, self._settings.local
        headers, events, tolerated, received = (
            registry.right_headers,
            self._events,
            self._tolerated,
            self.counters.received,
        )
        watchdog = self._watchdog
        for data in whole:
            message = decode_message(data, tolerated)
            key = headers.get(message.signature)
            if (
                key is None
                or message.errors
                or message.tolerated
                or self.state is not _OPEN
                or self.probed
                or registry.draining
                or watchdog is None
                or watchdog.health is not _OKAY
                or routing_error(message, registry.applications[message.application], local, registry.realms)
                is not None
            ):
                if self.state is _CLOSED:
                    return
                self._message(message, now)
                continue
            received[key] = received.get(key, 0) + 1
            watchdog.received(False, now)
            events.append(RequestReceived(message))

    def _message(self, message: Message, now: float) -> None:
        command, is_request = message.command, message.flags >> 7
        received, key = self.counters.received, message_key(command, is_request)
        received[key] = received.get(key, 0) + 1
        heard = _BASE_REQUESTS.get(command, _REQUEST) if is_request else self._classify_answer(message)
        watchdog = self._watchdog
        if watchdog is not None:
            if watchdog.received(heard is _DWA, now) is Action.FAIL_BACK:
                self._note_health(suspect=False)
            if self.probed:
                self.probed = False
                self._registry.heard(self, now)
        self._fire(heard, message, now)

    def _classify_answer(self, message: Message) -> Input:
        if self._pending.get(message.hop_by_hop) != message.command:
            return Input.ANSWER
        del self._pending[message.hop_by_hop]
        return _BASE_ANSWERS[message.command]

    def _answer(self, answer: bytes) -> None:
        self._output.append(answer)
        counters = self.counters
        sent, key = counters.sent, message_key(answer[5] << 16 | answer[6] << 8 | answer[7], 0)
        sent[key] = sent.get(key, 0) + 1
        answers, code = counters.answers, result_code_of(answer)
        answers[code] = answers.get(code, 0) + 1
        if answer[4] & FLAG_ERROR:
            counters.error_bit_answers += 1

    def _request(self, command: int, avps: list[Any]) -> None:
        identifier = self._hop_by_hop.take()
        self._pending[identifier] = command
        local = self._settings.local
        items = [(dictionary.ORIGIN_HOST, local.origin_host), (dictionary.ORIGIN_REALM, local.origin_realm), *avps]
        end_to_end = self._registry.end_to_end.take()
        self._output.append(encode_message(command, APPLICATION_COMMON, FLAG_REQUEST, identifier, end_to_end, items))
        add(self.counters.sent, message_key(command, 1))

    def _send_dwr(self) -> None:
        self.counters.watchdogs_sent += 1
        self._request(DEVICE_WATCHDOG, origin_state(self._settings.local))

    # Actions of the table. Each takes what came and the time.

    def _ignore(self, _subject: object, _now: float) -> None:
        pass

    def _examine_cer(self, message: Message, now: float) -> None:
        error = header_error(message, self._registry.applications, self._settings.strict_header_bits)
        verdict = Refused(error, "") if error else examine_cer(message, self.source, self._settings)
        if isinstance(verdict, Refused):
            for one in verdict.errors:
                add(self.counters.decode_errors, one.result_code)
            self._fire(Input.REFUSED, (message, verdict), now)
            return
        self._cer = (message, verdict)
        admission = self._registry.admit(self, verdict.origin_host, now)
        if admission is Admission.ADMIT:
            self._fire(Input.ADMITTED, None, now)
        elif admission is Admission.HOLD:
            self._fire(Input.HELD_BACK, None, now)
        else:
            self._fire(Input.REFUSED, None, now)

    def _hold(self, _subject: object, now: float) -> None:
        self._deadline = now + self._settings.probe_timeout_s

    def _open(self, _subject: object, now: float) -> None:
        if self._cer is None:
            raise LocalProtocolError("opened without a CER")
        message, info = self._cer
        self._cer = None
        self.info = info
        self.opened_at = now
        self.counters = self._registry.counters(info.origin_host)
        self.counters.connections += 1
        self.counters.tolerated_avps += message.tolerated
        entry = provisioned(info.origin_host, self._settings)
        self._tolerated = entry.tolerated if entry is not None else frozenset()
        self._framer.max_message_octets = self._settings.max_message_octets
        self._framer.sure = True
        self._watchdog = Watchdog(self._settings.watchdog_s, self._registry.rng, now)
        self._answer(build_cea(message, ResultCode.SUCCESS, self._local_address, self._settings))
        self._registry.opened(self)
        self._events.append(PeerOpened(info))
        self._note_origin_state(message)

    def _refuse(self, subject: tuple[Message, Refused] | None, now: float) -> None:
        """Answer a CER that is not admitted, or close without an answer where the peer is connected (DB-095)."""
        if subject is None:
            host = self._cer[1].origin_host if self._cer else ""
            self._events.append(PeerRefused(self.source, host, 0, "this Origin-Host is connected", ()))
        else:
            message, refused = subject
            error = refused.error
            self._answer(build_cea_refusal(message, refused, self._local_address, self._settings))
            self._events.append(
                PeerRefused(self.source, refused.origin_host, error.result_code, error.detail, refused.errors)
            )
        self._registry.closed(self, now)
        self._events.append(CloseTransport(abort=False, cause="the CER was refused"))

    def _turn_out(self, message: Message, now: float) -> None:
        """DB-014, DB-089: nothing but a CER is heard from a stranger."""
        self._cut("a message before the capabilities exchange", now)

    def _take_over(self, _subject: object, now: float) -> None:
        self._registry.take_over(self, now)

    def _answer_open_cer(self, message: Message, now: float) -> None:
        """DB-088, DB-142: an open connection is neither renegotiated nor given to somebody else."""
        if self._refuse_base(message, CER_GRAMMAR):
            return
        origin_host = first(message.avps, dictionary.ORIGIN_HOST)
        if self.info is None or not same_identity(origin_host, self.info.origin_host):
            self._fire(Input.IDENTITY_CHANGED, "a CER on an open connection names another Origin-Host", now)
            return
        self._answer(build_cea(message, ResultCode.SUCCESS, self._local_address, self._settings))

    def _answer_dwr(self, message: Message, _now: float) -> None:
        if self._refuse_base(message, DWR_GRAMMAR):
            return
        local = self._settings.local
        self._answer(build_answer(message, [*base_avps(ResultCode.SUCCESS, local), *origin_state(local)]))
        self._note_origin_state(message)

    def _note_origin_state(self, message: Message) -> None:
        value = first(message.avps, dictionary.ORIGIN_STATE_ID)
        if value and self.info is not None and self._registry.origin_state_rose(self.info.origin_host, value):
            self._events.append(OriginStateSeen(self.info.origin_host, value))

    def _examine_dpr(self, message: Message, now: float) -> None:
        if not self._refuse_base(message, DPR_GRAMMAR):
            self._fire(Input.DPR_VALID, message, now)

    def _answer_dpr(self, message: Message, _now: float) -> None:
        self._answer(build_answer(message, base_avps(ResultCode.SUCCESS, self._settings.local)))

    def _depart(self, message: Message, now: float) -> None:
        """DB-114: the peer closes; if it does not, we do."""
        self._answer_dpr(message, now)
        self._deadline = now + self._settings.disconnect_timeout_s

    def _refuse_base(self, message: Message, grammar: Mapping[int, tuple[int, int | None]]) -> bool:
        """Answer a CER, DWR or DPR that is wrong; false if nothing is."""
        error = header_error(message, self._registry.applications, self._settings.strict_header_bits)
        errors = []
        if error is None:
            errors = [*message.errors, *check_grammar(message.avps, grammar, message.faulty)]
            error = self._first_error(errors)
        if error is None:
            return False
        self._answer(build_error_answer(message, error, self._settings.local))
        self._events.append(RequestRefused(message, error.result_code, error.detail, tuple(errors)))
        return True

    def _first_error(self, errors: Sequence[AvpError]) -> RemoteProtocolError | None:
        """Count all errors, and give the one to answer (DB-020)."""
        for one in errors:
            add(self.counters.decode_errors, one.result_code)
        found = reported(errors)
        if found is None:
            return None
        return RemoteProtocolError(found.result_code, found.failed_avp or None, f"{found.name}: {found.detail}")

    def _deliver(self, message: Message, _now: float) -> None:
        """Give a request to the owner if it is for this server and can be read (DB-020)."""
        registry = self._registry
        errors: Sequence[AvpError] = message.errors
        if message.tolerated:
            self.counters.tolerated_avps += message.tolerated
        avp_error = self._first_error(errors) if errors else None
        error = header_error(message, registry.applications, self._settings.strict_header_bits)
        if error is None:
            application = registry.applications[message.application]
            error = routing_error(message, application, self._settings.local, registry.realms)
            if error is None and registry.draining:
                error = _leaving()
            if error is None and not application.judges_avps:
                error = avp_error
        if error is None:
            if len(registry.right_headers) < MAX_RIGHT_HEADERS:
                registry.right_headers[message.signature] = message_key(message.command, 1)
            self._events.append(RequestReceived(message))
        else:
            self._refuse_request(message, error, errors)

    def _turn_away(self, message: Message, _now: float) -> None:
        """Answer a request that crossed our DPR."""
        error = header_error(message, self._registry.applications, self._settings.strict_header_bits)
        self._refuse_request(message, error or _leaving(), ())

    def _refuse_request(self, message: Message, error: RemoteProtocolError, errors: Sequence[AvpError]) -> None:
        self._answer(self._registry.refuse(message, error))
        self._events.append(RequestRefused(message, error.result_code, error.detail, tuple(errors)))

    def _discard_answer(self, _message: Message, _now: float) -> None:
        """DB-032, DB-077: counted, and never answered."""
        self.counters.unmatched_answers += 1

    def _watch(self, _subject: object, now: float) -> None:
        if self._watchdog is None:
            raise LocalProtocolError("an open connection without a watchdog")
        action = self._watchdog.expired(now)
        if action is Action.SEND_DWR:
            self._send_dwr()
        elif action is Action.FAIL_OVER:
            self.counters.watchdogs_missed += 1
            self._note_health(suspect=True)
        elif action is Action.CLOSE:
            self._fire(Input.GIVEN_UP, "the watchdog found the peer dead", now)

    def _note_health(self, suspect: bool) -> None:
        if self.info is not None:
            self._events.append(HealthChanged(self.info, suspect))

    def _disconnect(self, cause: int, now: float) -> None:
        self._deadline = now + self._settings.disconnect_timeout_s
        self._request(DISCONNECT_PEER, [(dictionary.DISCONNECT_CAUSE, cause)])

    def _finish(self, _subject: object, now: float) -> None:
        self._end("disconnected", now, abort=False)

    def _hang_up(self, cause: str, now: float) -> None:
        """End a stream that cannot be read; what was answered still leaves, else it is reset (DB-006, DB-009)."""
        self._end(cause, now, abort=not self._output)

    def _cut(self, cause: object, now: float) -> None:
        self._output.clear()
        self._end(str(cause) if cause else "no capabilities exchange in time", now, abort=True)

    def _vanish(self, cause: str, now: float) -> None:
        self._output.clear()
        self._registry.closed(self, now)
        if self.info is not None:
            self._events.append(PeerClosed(self.info, cause))

    def _end(self, cause: str, now: float, abort: bool) -> None:
        self._registry.closed(self, now)
        if self.info is not None:
            self._events.append(PeerClosed(self.info, cause))
        self._events.append(CloseTransport(abort, cause))


_STEPS: tuple[tuple[tuple[Callable[[Peer, Any, float], None], State] | None, ...], ...] = tuple(
    tuple(
        None if (step := TABLE.get((state, heard))) is None else (getattr(Peer, "_" + step.action), step.state)
        for heard in Input
    )
    for state in State
)
"""The table by state and input, its actions found."""


def _leaving() -> RemoteProtocolError:
    return RemoteProtocolError(ResultCode.UNABLE_TO_DELIVER, None, "this server is leaving")
