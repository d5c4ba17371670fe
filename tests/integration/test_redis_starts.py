"""Several workers start at once on a Redis that holds nothing yet."""

from __future__ import annotations

import asyncio

from balance.redis_store import RedisStore
from tests.support.redis_server import RedisServer


def test_one_of_many_makes_the_store_and_all_use_it(redis_server: RedisServer) -> None:
    async def start() -> None:
        stores = await asyncio.gather(*(RedisStore.open(redis_server.url) for _ in range(20)))
        for store in stores:
            await store.close()

    for _ in range(10):
        with redis_server.client() as client:
            client.flushall()
        asyncio.run(start())
        with redis_server.client() as client:
            assert client.dbsize() == 1
