"""`ocs serve --test-clock` as processes: one on SQLite, or two that share a Redis; with the scenarios' catalogue, an
operator, and gateways that are connected to them.

The two of `Workers` are used alternately, request by request, by gateways and operators, so that whatever one of them
has cached is stale by what the other did.
"""

from __future__ import annotations

import itertools
import select
import signal
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol, Self

from ocs.demo.server import STANDARD_FILES, DemoServer, Files
from tests.support.gy_client import Answer, GyClient, Requests
from tests.support.processes import DYING_WITH_THE_TEST

CATALOGUE = Path(__file__).with_name("catalogue.toml")
CATALOGUE_TIMEOUT_S = 10.0
CENT = 10_000
HOST, REALM = "ocs1.example.com", "example.com"


class Gateway(Protocol):
    """One gateway, over one connection or several."""

    requests: Requests

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def exchange(self, data: bytes) -> Answer:
        """Send a request and receive its answer."""

    def send(self, data: bytes) -> None:
        """Send whole requests."""

    def receive(self) -> Answer:
        """The next answer, whichever it is."""

    def close(self) -> None:
        """End the connections without a DPR."""


class Operator:
    """What an operator asks of a server, in cents."""

    def get(self, path: str) -> dict[str, Any]:
        """A GET of the operator's interface."""
        raise NotImplementedError

    def post(self, path: str, **body: Any) -> dict[str, Any]:
        """A POST of the operator's interface."""
        raise NotImplementedError

    def activate(self) -> int:
        """Activate the scenarios' catalogue; its version."""
        answer = self.post("/v1/catalogue/activate", text=CATALOGUE.read_text(), filename=CATALOGUE.name)
        return int(answer["version"])

    def subscriber(
        self, cents: int, plan: str = "d10", msisdn: str = "447700900123", account: str = "acc", limit: int = 0
    ) -> str:
        """An account with money and one subscriber; gives the account's name."""
        self.post("/v1/accounts", account=account, currency="EUR", credit_limit_micros=limit * CENT)
        if cents:
            self.top_up(cents, account)
        identities = [{"kind": "e164", "value": msisdn}]
        self.post("/v1/subscribers", subscriber=f"sub-{account}", account=account, plan=plan, identities=identities)
        return account

    def top_up(self, cents: int, account: str = "acc") -> None:
        self.post(f"/v1/accounts/{account}/topup", amount=cents * CENT)

    def balance(self, account: str = "acc") -> tuple[int, int]:
        """(B, R) in cents, exactly."""
        found = self.get(f"/v1/accounts/{account}")
        posted, reserved = found["balance_micros"], found["reserved_micros"]
        assert posted % CENT == 0
        assert reserved % CENT == 0
        return posted // CENT, reserved // CENT

    def bucket(self, number: int, account: str = "acc") -> dict[str, Any]:
        """One bucket of an account."""
        for bucket in self.get(f"/v1/accounts/{account}")["buckets"]:
            if bucket["bucket"] == number:
                found: dict[str, Any] = bucket
                return found
        raise KeyError(number)

    def debits(self, account: str = "acc") -> list[int]:
        """Debits of money in the ledger, in cents, oldest first."""
        events = self.get(f"/v1/accounts/{account}/ledger?limit=1000")["items"]
        entries = [entry for event in events for entry in event["entries"]]
        amounts = [-one["posted_change"] for one in entries if one["verb"] == "debit" and one["kind"] == "money"]
        assert all(amount % CENT == 0 for amount in amounts)
        return [amount // CENT for amount in amounts]


class Server(Operator, DemoServer):
    """One process, alone on SQLite."""

    def __init__(
        self, home: Path, settings: str = "", arguments: Sequence[str] = (), files: Files = STANDARD_FILES
    ) -> None:
        DemoServer.__init__(self, home, HOST, REALM, ("--test-clock", *arguments), settings, files)
        self.home = home

    def get(self, path: str) -> dict[str, Any]:
        return DemoServer.get(self, path)

    def post(self, path: str, **body: Any) -> dict[str, Any]:
        return DemoServer.post(self, path, **body)

    def command(self) -> list[str]:
        return [*DYING_WITH_THE_TEST, *super().command()]

    def prepare(self) -> None:
        """Activate the scenarios' catalogue."""
        self.activate()

    def terminate(self) -> None:
        """SIGTERM, without waiting; `stop` must follow."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()

    def kill(self) -> None:
        """SIGKILL; returns when the process is gone."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def is_running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def advance(self, seconds: int) -> None:
        """Step the clock; everything due is done when this returns."""
        answer = self._client.post("/v1/clock/advance", json={"seconds": seconds})
        assert answer.is_success, answer.text

    def now_us(self) -> int:
        """The charging clock."""
        return int(self.get("/v1/clock")["now_us"])

    def numbers(self) -> dict[str, int]:
        """Counters by their names in the metrics text, without the product's prefix."""
        found = {}
        for line in self._client.get("/v1/metrics").text.splitlines():
            name, _, value = line.rpartition(" ")
            if name and not name.startswith("#") and "{" not in name:
                short = name.removeprefix("ocs_").removeprefix("charging_").removesuffix("_total")
                found[short] = int(float(value))
        return found

    def gateway(self, origin_host: str = "gw1.example.net") -> GyClient:
        """A gateway whose capabilities were accepted."""
        return connect(self.port, Requests(origin_host))


def connect(port: int, requests: Requests) -> GyClient:
    """A connection whose capabilities were accepted."""
    client = GyClient(("127.0.0.1", port), requests)
    assert client.open().code == 2001
    return client


class AlternatingGateway:
    """One gateway with a connection to each worker: every request goes to the next one."""

    def __init__(self, ports: Iterable[int], origin_host: str) -> None:
        self.requests = Requests(origin_host)
        self.clients = [connect(port, self.requests) for port in ports]
        self._next = itertools.cycle(self.clients)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connections without a DPR."""
        for client in self.clients:
            client.close()

    def exchange(self, data: bytes) -> Answer:
        """Send a request to the next worker and receive its answer."""
        return next(self._next).exchange(data)

    def send(self, data: bytes) -> None:
        """Send requests, one here, one there."""
        parts: dict[GyClient, bytes] = {}
        for request in messages_of(data):
            client = next(self._next)
            parts[client] = parts.get(client, b"") + request
        for client, part in parts.items():
            client.send(part)

    def receive(self) -> Answer:
        """The next answer of any worker."""
        for client in self.clients:
            if client.has_message():
                return client.receive()
        readable, _, _ = select.select(self.clients, [], [], 10)
        assert readable, "no answer from any worker within ten seconds"
        client = readable[0]
        assert isinstance(client, GyClient)
        return client.receive()


def messages_of(data: bytes) -> list[bytes]:
    """The messages of a stream of whole ones."""
    found = []
    while data:
        length = int.from_bytes(data[1:4], "big")
        found.append(data[:length])
        data = data[length:]
    return found


class Worker(Server):
    """One of several processes, started by itself."""

    def __init__(self, home: Path, number: int, settings: str) -> None:
        socket = f"{STANDARD_FILES.socket}.{number}" if number else STANDARD_FILES.socket
        files = Files(f"worker{number}.toml", f"worker{number}.log", socket)
        super().__init__(home, settings, ("--worker", str(number)), files)


class Workers(Operator):
    """Worker processes on one Redis, in one home folder."""

    def __init__(self, home: Path, store_urls: Sequence[str], level: str = "safe", settings: str = "") -> None:
        """One worker for each URL of the store: the same one, or that of a proxy of its own."""
        self.home = home
        common = f'level = "{level}"\n\n[workers]\ncount = {len(store_urls)}\n{settings}'
        self.servers = [
            Worker(home, number, f'\n[store]\nengine = "redis"\nurl = "{url}"\n{common}')
            for number, url in enumerate(store_urls)
        ]
        self._next = itertools.cycle(self.servers)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        for server in self.servers:
            server._client.close()

    def start(self) -> None:
        """Start all at once; none is left if one fails."""
        try:
            for server in self.servers:
                server.launch()
            self.wait_until_ready()
        except BaseException:
            self.stop()
            raise

    def wait_until_ready(self) -> None:
        """Wait until every worker answers, and bring their clocks, which stood still or began anew, together."""
        for server in self.servers:
            server.wait_until_ready()
        times = {server: server.now_us() for server in self.servers}
        for server, now_us in times.items():
            if behind_s := (max(times.values()) - now_us) // 1_000_000:
                server.advance(behind_s)

    def stop(self) -> None:
        for server in self.servers:
            server.terminate()
        for server in self.servers:
            server.stop()

    def prepare(self) -> None:
        """Activate the scenarios' catalogue; every worker charges by it when this returns."""
        version = self.activate()
        end = time.monotonic() + CATALOGUE_TIMEOUT_S
        while any(one.get("/v1/doctor")["catalogue"]["version"] != version for one in self.servers):
            assert time.monotonic() < end, "a worker does not follow the catalogue"
            time.sleep(0.02)

    def get(self, path: str) -> dict[str, Any]:
        return next(self._next).get(path)

    def post(self, path: str, **body: Any) -> dict[str, Any]:
        return next(self._next).post(path, **body)

    def advance(self, seconds: int) -> None:
        """Step all clocks; everything due is done when this returns."""
        for server in self.servers:
            server.advance(seconds)

    def numbers(self) -> dict[str, int]:
        """Counters of all workers, added."""
        each = [server.numbers() for server in self.servers]
        return {name: sum(one.get(name, 0) for one in each) for name in each[0]}

    def gateway(self, origin_host: str = "gw1.example.net") -> AlternatingGateway:
        """A gateway with a connection to each worker."""
        return AlternatingGateway([server.port for server in self.servers], origin_host)
