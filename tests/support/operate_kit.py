"""The operator's interface over an engine in memory: a runtime for the API, and the API on a unix socket."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import httpx
from prometheus_client.core import Metric

from balance.memory_store import MemoryStore
from balance.store import StoreFailure
from ocs.api.app import build_app
from ocs.api.peer import WithPeer
from ocs.api.unix_server import UnixServer
from ocs.charging.catalogue_rollout import Activated
from ocs.charging.catalogue_store import publish, switch
from ocs.charging.conductor import StoreUnavailable
from ocs.charging.engine import Engine
from ocs.charging.pricing import Catalogues
from ocs.charging.registry import describe_workers
from ocs.config import Settings
from tariffs.loader import load
from tests.support.charging_kit import Kit


class KitRuntime:
    """A runtime over the engine kit: memory store, stepped clock."""

    def __init__(self, kit: Kit | None = None, settings: Settings | None = None) -> None:
        self.kit = kit or Kit()
        self.settings = settings or Settings()
        self.mode: Literal["server", "command"] = "server"
        self.worker_id = "0123456789abcdef"
        self.stepped = True
        self.warned: list[str] = []
        self.wrong: list[str] = []

    @property
    def engine(self) -> Engine:
        """The kit's engine."""
        return self.kit.engine

    def monotonic(self) -> float:
        """Seconds that go with the clock."""
        return self.kit.monotonic()

    def uptime_s(self) -> int:
        """Just begun."""
        return 0

    def now_us(self) -> int:
        """The stepped clock."""
        return self.kit.now_us

    def advance(self, seconds: int) -> None:
        """Step it; `sweep` handles what became due."""
        self.kit.now_us += seconds * 1_000_000

    async def sweep(self) -> int:
        """Until nothing is due."""
        return self.kit.advance(0)

    async def activate_catalogue(
        self, text: str, filename: str, who: str, reason: str, key: str | None = None
    ) -> Activated:
        """Store and load a new version; version 1 is the kit's own catalogue, which is not in the store."""
        engine = self.engine
        published = self.kit.run(publish(engine, self.kit.order(key), text, filename))
        version = published.version
        if published.pointer.published != version:
            return Activated(version + 1, published.pointer.current + 1, False, published.repeated, ())
        self.kit.run(switch(engine, version, self.kit.now_us, self.kit.now_us))
        versions = {1: self.kit.catalogue, version + 1: load(text, filename, version + 1)}
        engine.use_catalogues(Catalogues(versions, version + 1))
        return Activated(version + 1, version + 1, True, published.repeated, (self.kit.entry(),))

    async def workers(self) -> Mapping[str, Any]:
        """The kit alone."""
        return describe_workers(self.kit.run(self.kit.registry.look()))

    async def store_facts(self) -> Mapping[str, object]:
        """Facts of the memory store."""
        outcome: list[object] = []
        self.engine.store.read(0, (b"{p000}:x",), outcome.append)
        if isinstance(outcome[0], StoreFailure):
            raise StoreUnavailable(outcome[0].detail)
        return {"engine": "memory", "level": "none", "partitions": self.engine.store.partitions}

    def listeners(self) -> Sequence[Mapping[str, object]]:
        """One that nobody listens on."""
        return ({"name": "diameter", "address": "127.0.0.1:3868"},)

    def numbers(self) -> Mapping[str, int]:
        """One gauge."""
        return {"diameter_peers_open": 0}

    def families(self) -> Iterable[Metric]:
        """None: there is no server around it."""
        return ()

    async def close(self) -> None:
        """Nothing to give up."""

    def warnings(self) -> Sequence[str]:
        """What a test put there."""
        return self.warned

    def problems(self) -> Sequence[str]:
        """What a test put there."""
        return self.wrong


def snapshot(kit: Kit) -> list[tuple[object, ...]]:
    """Everything that the memory store holds; two equal ones mean that nothing was changed."""
    assert isinstance(kit.store, MemoryStore)
    return [
        (
            dict(part.documents),
            dict(part.due),
            {name: set(members) for name, members in part.indexes.items() if members},
            list(part.outbox),
        )
        for part in kit.store._data
    ]


class ApiClient:
    """Blocking calls of the application in process, as the user `operator`."""

    def __init__(self, runtime: KitRuntime, peer: str | None = "operator") -> None:
        app: Any = build_app(runtime)
        self._app = app if peer is None else WithPeer(app, peer)

    def call(self, method: str, path: str, body: Any = None, **query: Any) -> tuple[int, Any]:
        """Status and decoded answer."""

        async def send() -> httpx.Response:
            transport = httpx.ASGITransport(self._app)
            async with httpx.AsyncClient(transport=transport, base_url="http://ocs") as client:
                return await client.request(method, path, json=body, params=query)

        answer = asyncio.run(send())
        is_json = "json" in answer.headers.get("content-type", "")
        return answer.status_code, answer.json() if is_json else answer.text

    def get(self, path: str, **query: Any) -> Any:
        """The answer of a GET that must succeed."""
        status, answer = self.call("GET", path, **query)
        assert status == 200, answer
        return answer

    def post(self, path: str, **body: Any) -> Any:
        """The answer of a POST that must succeed; `reason` is given if absent."""
        status, answer = self.call("POST", path, {"reason": "a test", **body})
        assert status in (200, 201), answer
        return answer

    def refused(self, path: str, body: Any, method: str = "POST") -> tuple[int, str, str | None, str]:
        """(status, kind, field, message) of a call that must be refused."""
        status, answer = self.call(method, path, body)
        assert status >= 400, answer
        assert set(answer) == {"error"}
        error = answer["error"]
        return status, error["kind"], error["field"], error["message"]


@contextmanager
def served(runtime: KitRuntime, path: Path) -> Iterator[None]:
    """The API on a unix socket, in a thread with a loop of its own."""
    loop = asyncio.new_event_loop()
    server = UnixServer(build_app(runtime), path)
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(server.start(), loop).result(10)
        try:
            yield
        finally:
            asyncio.run_coroutine_threadsafe(server.stop(), loop).result(10)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
