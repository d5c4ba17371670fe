"""DB-031 against the server binary: for application 4 the session's own record of its requests is the duplicate cache."""

from __future__ import annotations

from protocols.diameter import dictionary as d
from tests.support.gy_client import INITIAL, MIB, UPDATE, mscc, proxy_info, units
from tests.support.server_process import Server

END_TO_END = 0xABCDE001


def test_db_031_a_duplicate_over_another_connection_gets_the_same_answer(server: Server) -> None:
    # DB-031: "Base-level duplicate key = (Origin-Host, End-to-End Identifier) ... A duplicate gets the same answer (new
    # Hop-by-Hop id, current Proxy-Info) and must not change state." Test: send same CCR twice over two connections.
    server.subscriber(1000)
    service = mscc(100, requested=[], used=[units(total=10 * MIB)])
    with server.gateway() as first, server.gateway() as second:
        first.ccr(INITIAL, 0, "s1", mscc(100, requested=[]))
        answers, states = [], []
        for client, hop_by_hop, proxy in (
            (first, 5, proxy_info("p1", b"one")),
            (second, 6, proxy_info("p2", b"\0two")),
        ):
            request = client.requests.ccr(
                UPDATE, 1, "s1", service, extra=[proxy], hop_by_hop=hop_by_hop, end_to_end=END_TO_END
            )
            answer = client.exchange(request)
            assert (answer.message.hop_by_hop, answer.message.proxy_infos) == (hop_by_hop, [proxy])
            answers.append([avp for avp in answer.message.avps if avp[0] != d.PROXY_INFO])
            states.append((server.balance(), server.debits()))
    assert answers[0] == answers[1]
    assert states[0] == states[1]
