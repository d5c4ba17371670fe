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
from ocs.servers.gy import GySettings, build_refusal, from_outcome, read_request, to_charging
from protocols.diameter import dictionary
from protocols.diameter.answers import Local
from protocols.diameter.avp import Message, first
from protocols.diameter.errors import RemoteProtocolError
from protocols.diameter.events import PeerInfo

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

    def handle(self, message: Message, _peer: PeerInfo, reply: Callable[[bytes], None]) -> None:
        """Process one CCR; `reply` is called once, now or when its commit is done."""
        try:
            ccr, profile = read_request(message, self._settings())
        except RemoteProtocolError as error:
            self._log_refusal(message, error)
            reply(build_refusal(message, error, self._local))
            return

        def done(result: Outcome | ChargingError) -> None:
            outcome = _unprocessed(result) if isinstance(result, ChargingError) else result
            if outcome is None:
                reply(self._overloaded(message))
            else:
                reply(from_outcome(message, ccr, outcome, profile, self._local))

        self._engine.charge(to_charging(ccr, profile), self._monotonic() + self._deadline_s, done)

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
