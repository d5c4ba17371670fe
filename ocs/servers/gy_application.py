"""The charging application of the Diameter node: a CCR in, exactly one CCA out, after its commit.

It knows messages and the engine, and neither sockets nor peers; the node calls it with every request of application 4
that it lets through, and writes what `reply` is given.
"""

from __future__ import annotations

from collections.abc import Callable

from ocs.charging.conductor import ChargingError, DeadlinePassed, LaneFull, StoreUnavailable
from ocs.charging.engine import Engine
from ocs.charging.requests import Outcome, Result
from ocs.charging.results import overload_code
from ocs.servers.gy import GySettings, PeerProfile, build_refusal, from_outcome, read_request, to_charging
from ocs.servers.gy_regular import RegularGy
from protocols.diameter import dictionary
from protocols.diameter.answers import Local
from protocols.diameter.avp import Message, first
from protocols.diameter.credit_control_messages import CreditControlRequest
from protocols.diameter.errors import RemoteProtocolError
from protocols.diameter.events import PeerInfo

Reply = Callable[[bytes], None]

_BUSY = (LaneFull, DeadlinePassed)


class GyApplication:
    """Answers CCRs from one engine."""

    def __init__(
        self,
        engine: Engine,
        settings: Callable[[], GySettings],
        local: Local,
        monotonic: Callable[[], float],
        deadline_s: float,
        log_refusal: Callable[[Message, RemoteProtocolError], None],
    ) -> None:
        """`settings` is asked for every request, so that a new catalogue counts at once."""
        self._engine = engine
        self._settings = settings
        self._local = local
        self._monotonic = monotonic
        self._deadline_s = deadline_s
        self._log_refusal = log_refusal
        self._regular: RegularGy | None = None

    def handle(self, message: Message, _peer: PeerInfo, reply: Reply) -> None:
        """Process one CCR; `reply` is called once, now or when its commit is done."""
        settings = self._settings()
        regular = self._regular
        if regular is None or regular.settings is not settings:
            regular = self._regular = RegularGy(settings, self._local)
        found = regular.read(message)
        if found is None:
            self._handle_irregular(message, settings, reply)
            return
        request, asked = found

        def done(result: Outcome | ChargingError) -> None:
            answer = regular.answer(message, asked, result) if type(result) is Outcome else None
            if answer is None:
                answer = self._answer(message, *read_request(message, settings), result)
            reply(answer)

        self._engine.charge(request, self._monotonic() + self._deadline_s, done)

    def _handle_irregular(self, message: Message, settings: GySettings, reply: Reply) -> None:
        try:
            ccr, profile = read_request(message, settings)
        except RemoteProtocolError as error:
            self._log_refusal(message, error)
            reply(build_refusal(message, error, self._local))
            return

        def done(result: Outcome | ChargingError) -> None:
            reply(self._answer(message, ccr, profile, result))

        self._engine.charge(to_charging(ccr, profile), self._monotonic() + self._deadline_s, done)

    def _answer(
        self, message: Message, ccr: CreditControlRequest, profile: PeerProfile, result: Outcome | ChargingError
    ) -> bytes:
        outcome = _unprocessed(result) if isinstance(result, ChargingError) else result
        if outcome is None:
            return self._overloaded(message)
        return from_outcome(message, ccr, outcome, profile, self._local)

    def _overloaded(self, message: Message) -> bytes:
        """3004 only to a client that named this host, else 5012 (DB-127)."""
        named = (first(message.avps, dictionary.DESTINATION_HOST) or "").lower()
        code = overload_code(named == self._local.origin_host.lower())
        return build_refusal(message, RemoteProtocolError(code, None, "too busy"), self._local)


def _unprocessed(error: ChargingError) -> Outcome | None:
    """What to answer when nothing was committed; no request number was recorded, so a repeat is processed (CC-220)."""
    if isinstance(error, _BUSY):
        return None
    detail = "store" if isinstance(error, StoreUnavailable) else "internal"
    return Outcome(Result.UNABLE_TO_COMPLY, detail=detail)
