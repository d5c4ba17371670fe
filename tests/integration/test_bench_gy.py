"""The load generator against whole servers: it passes a right one, and fails one that is wrong by a micro-unit."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from bench.__main__ import main
from bench.gy.accounts import account_name, make_accounts
from bench.gy.plan import PRICES, Plan
from bench.gy.servers import Ocs
from bench.gy.traffic import Run

SHORT = [
    "--duration-s",
    "0.5",
    "--warm-up-s",
    "0.1",
    "--sessions",
    "60",
    "--accounts",
    "40",
    "--updates",
    "3",
    "--quiet",
]
LOAD = [*SHORT, "--connections", "2", "--window", "8", "--json"]
SQLITE = '[store]\nengine = "sqlite"\n'


def bench(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any], str]:
    status = main(["gy", *arguments])
    output = capsys.readouterr()
    return status, json.loads(output.out) if output.out else {}, output.err


@pytest.fixture(scope="module")
def ocs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ocs]:
    """A server with three rating groups at the generator's prices, used by several tests one after the other."""
    server = Ocs(tmp_path_factory.mktemp("bench"), 1, SQLITE)
    make_accounts(server.settings, Plan(prices=PRICES, accounts=40))
    with server:
        yield server


def against(ocs: Ocs, *prices: str) -> list[str]:
    ((host, port),) = ocs.addresses
    texts = prices or [":".join(str(part) for part in price) for price in PRICES]
    options = [part for text in texts for part in ("--price", text)]
    return [*LOAD, "--server", f"{host}:{port}", "--control", str(ocs.operators[0].path), *options]


def test_a_run_of_its_own_on_redis_with_two_workers_and_the_reference(capsys: pytest.CaptureFixture[str]) -> None:
    status, report, errors = bench(capsys, *LOAD, "--workers", "2", "--reference", "--rating-groups", "3")
    assert (status, errors) == (0, "")
    assert report["passed"] is True
    assert report["durability"] == "redis, fast"
    ours, reference = report["runs"]
    assert (ours["server"], reference["server"]) == ("tollgate-ocs", "reference")
    for one in (ours, reference):
        assert one["books"]["accounts"] == 40
        assert one["books"]["expected_micros"] > 0
        assert one["books"]["wrong"] == []
        # What a session costs is not asked of the reference.
        assert one["books"]["sessions"] == (0 if one is reference else 128)
        assert set(one["result_codes"]) == set(one["service_result_codes"]) == {"2001"}
        assert one["counts"]["sessions"] >= 60
    figures = ours["figures"]
    assert 0 < figures["latency_p50_ms"] <= figures["latency_p99_ms"] <= figures["latency_p99.9_ms"]
    assert {"rss_mib worker 0", "rss_mib worker 1", "rss_mib redis"} <= set(figures)
    assert {name for name in figures if name.startswith("cpu_us")} == {
        f"cpu_us_per_answer {name}" for name in ("worker 0", "worker 1", "supervisor", "redis", "generator")
    }
    assert set(report["ratio_to_reference"]) == {"answers_per_s", "cpu_us_per_answer"}


def test_a_table_for_people_on_sqlite(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "results" / "gy.json"
    options = [one for one in LOAD if one != "--json"]
    assert main(["gy", *options, "--store", "sqlite", "--repeats", "2", "--output", str(file)]) == 0
    text = capsys.readouterr().out
    assert re.search(r"40 and \d+ sessions, all right", text)
    assert "durability: sqlite, safe" in text
    assert "every balance to the micro-unit" in text
    report = json.loads(file.read_text())
    assert [run["repeat"] for run in report["runs"]] == [0, 1]
    spread = report["summary"]["tollgate-ocs"]["answers_per_s"]
    assert 0 < spread["min"] <= spread["median"] <= spread["max"]


def test_a_running_server_passes_and_its_process_is_measured(ocs: Ocs, capsys: pytest.CaptureFixture[str]) -> None:
    pid = ocs.workers["worker 0"]
    status, report, errors = bench(capsys, *against(ocs), "--pid", f"ocs={pid}")
    assert (status, errors) == (0, "")
    assert report["runs"][0]["figures"]["cpu_us_per_answer ocs"] > 0
    assert report["durability"] == "as the server is configured"


def test_a_price_that_differs_by_a_micro_unit_fails_the_run(ocs: Ocs, capsys: pytest.CaptureFixture[str]) -> None:
    quota, price, per, step = PRICES[0][1:]
    wrong = f"100:{quota}:{price + 1}:{per}:{step}"
    status, report, errors = bench(capsys, *against(ocs, wrong))
    assert status == 1
    assert report["passed"] is False
    assert "micro-units" in errors
    wrong = report["runs"][0]["books"]["wrong"]
    assert {line.split()[0] for line in wrong} == {"account", "session"}


def test_another_quota_than_was_named_fails_the_run(ocs: Ocs, capsys: pytest.CaptureFixture[str]) -> None:
    status, _, errors = bench(capsys, *against(ocs, f"100:{PRICES[0].quota - 1}:13000:1000000:100000"))
    assert status == 1
    assert "wrong grant, expected 9999999, found 10000000" in errors


def test_an_unknown_subscriber_fails_the_run_by_its_code(ocs: Ocs, capsys: pytest.CaptureFixture[str]) -> None:
    options = [one for one in against(ocs) if one not in ("--control", str(ocs.operators[0].path))]
    status, report, errors = bench(capsys, *options, "--msisdn-from", "499990000000", "--imsi-from", "262019999999999")
    assert status == 1
    assert set(report["runs"][0]["result_codes"]) == {"5030"}
    assert "5030" in errors


def test_open_loop_keeps_the_rate(ocs: Ocs, capsys: pytest.CaptureFixture[str]) -> None:
    status, report, errors = bench(capsys, *against(ocs), "--rate", "200", "--duration-s", "1")
    assert (status, errors) == (0, "")
    run = report["runs"][0]
    assert 180 <= run["figures"]["answers_per_s"] <= 220
    assert run["written_late_ms"]["p50"] < 5


def test_a_server_that_is_not_there_is_a_clear_failure(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
        status, _, errors = bench(capsys, *LOAD, "--server", f"127.0.0.1:{port}", "--price", "1:1:1:1:1")
    assert status == 1
    assert f"FAILED 127.0.0.1:{port}" in errors


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--server", "nowhere"], "expected HOST:PORT"),
        (["--server", "127.0.0.1:1"], "--server needs --price"),
        (["--price", "1:2"], "expected RG:QUOTA:PRICE_MICROS:PER:STEP"),
        (["--store", "sqlite", "--workers", "2"], "more than one need --store redis"),
        (["--rate", "0"], "expected more than 0"),
        (["--accounts", "2"], "expected at least one for each connection"),
        (["--msisdn-from", "12345"], "expected 7 to 15 digits"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(
    options: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["gy", *options])
    assert said in capsys.readouterr().err


class CuttingProxy:
    """Stands before a server and resets each of its first connections after some octets of answers."""

    def __init__(self, server: tuple[str, int], cuts: int, after_octets: int) -> None:
        self._server = server
        self._cuts = cuts
        self._after_octets = after_octets
        self._stack = ExitStack()
        self._listener = self._stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        self.address: tuple[str, int] = self._listener.getsockname()
        self.cut = 0

    def __enter__(self) -> CuttingProxy:
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        self._stack.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(self._server)
            threading.Thread(target=self._carry, args=(client, server, 1 << 60), daemon=True).start()
            self._cuts -= 1
            most = self._after_octets if self._cuts >= 0 else 1 << 60
            threading.Thread(target=self._carry, args=(server, client, most), daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket, octets: int) -> None:
        try:
            while octets > 0 and (data := source.recv(min(octets, 4096))):
                sink.sendall(data)
                octets -= len(data)
            self.cut += octets <= 0
        except OSError:
            pass
        finally:
            for one in (source, sink):
                # A close alone does not wake the other direction's thread, and ends nothing while that one reads.
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
                one.close()


def plan_through(proxy: CuttingProxy, **fields: Any) -> Run:
    plan = Plan(
        connections=1,
        window=8,
        sessions=40,
        accounts=20,
        updates=3,
        prices=PRICES,
        duration_s=0.5,
        warm_up_s=0,
        **fields,
    )
    return Run(plan, [proxy.address], {})


def test_a_lost_connection_fails_the_run(ocs: Ocs) -> None:
    with CuttingProxy(ocs.addresses[0], 1, 20_000) as proxy:
        # Of the other accounts: sessions that are cut off keep what they hold until they expire.
        seen = plan_through(proxy, msisdn_from=Plan().msisdn(20), imsi_from=Plan().imsi(20)).run()
    assert "the connection failed" in seen.problems
    assert any("closed connection 1" in line for line in seen.examples)


def test_requests_are_repeated_over_a_new_connection_and_debited_once(ocs: Ocs) -> None:
    operator = ocs.operators[0]
    before = operator.accounts()
    with CuttingProxy(ocs.addresses[0], 3, 20_000) as proxy:
        seen = plan_through(proxy, resend=True).run()
        assert proxy.cut == 3
    assert seen.reconnects == 3
    assert seen.counts["repeated"] > 0
    assert seen.problems == {}
    assert seen.unanswered == 0
    after = operator.accounts()
    for number, spent in enumerate(seen.spent_micros):
        name = account_name(number)
        assert after[name] == (before[name][0] - spent, 0)


def test_a_server_that_stops_in_order_is_noticed(tmp_path: Path) -> None:
    server = Ocs(tmp_path, 1, SQLITE)
    plan = Plan(connections=1, window=4, sessions=10, accounts=10, duration_s=20, warm_up_s=0)
    make_accounts(server.settings, plan)
    with server:
        timer = threading.Timer(0.5, os.kill, (server.workers["worker 0"], signal.SIGTERM))
        timer.start()
        seen = Run(plan, server.addresses, {}).run()
        timer.join()
    assert "the connection failed" in seen.problems
