"""The accounts of a run with a server of its own: made in the store before the server starts, many at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from balance.documents import home_partition
from bench.gy.plan import Plan, catalogue_text
from ocs.charging.account_operations import TopUp, create_account, top_up
from ocs.charging.operations import Order
from ocs.charging.requests import Identity
from ocs.charging.subscriber_operations import add_subscriber
from ocs.config import Settings
from ocs.runtime import StoreRuntime, open_runtime
from tariffs.currencies import CURRENCIES

PLAN = "bench"
OPENING_MICROS = 10**15
"""A thousand million, so that no run comes to its end."""
AT_ONCE = 256


def account_name(number: int) -> str:
    """Name of an account of a run."""
    return f"bench-{number:07d}"


def make_accounts(settings: Settings, plan: Plan) -> None:
    """Activate the catalogue of the plan's prices and open its accounts, each with money and one subscriber."""
    asyncio.run(_make(settings, plan))


async def _make(settings: Settings, plan: Plan) -> None:
    runtime = await open_runtime(settings, "command")
    try:
        await runtime.activate_catalogue(catalogue_text(plan.prices, PLAN), "bench.toml", "bench", "load test")
        await make_many(runtime, plan, range(plan.accounts))
    finally:
        await runtime.close()


async def make_many(runtime: StoreRuntime, plan: Plan, numbers: Iterable[int]) -> None:
    """Open accounts, `AT_ONCE` at a time."""
    waiting = iter(numbers)

    async def some() -> None:
        for number in waiting:
            await _make_one(runtime, plan, number)

    await asyncio.gather(*(some() for _ in range(AT_ONCE)))


async def _make_one(runtime: StoreRuntime, plan: Plan, number: int) -> None:
    engine, name, euro = runtime.engine, account_name(number), CURRENCIES["EUR"]
    partition = home_partition("account", name, engine.store.partitions)

    def order(what: str) -> Order:
        return Order(f"bench-{what}-{number}", "bench", "load test")

    saga = create_account(engine, order("create"), name, euro.numeric, euro.exponent, 0, partition)
    await runtime.run(saga, 60)
    await runtime.run(top_up(engine, order("topup"), name, TopUp(OPENING_MICROS)), 60)
    identities = [Identity("e164", plan.msisdn(number)), Identity("imsi", plan.imsi(number))]
    await runtime.run(add_subscriber(engine, order("subscriber"), name, name, PLAN, identities), 60)
