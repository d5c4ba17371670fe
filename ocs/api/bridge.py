"""From a coroutine to the engine's callbacks: await a saga."""

from __future__ import annotations

import asyncio
from typing import TypeVar

from ocs.api.runtime import Runtime
from ocs.charging.conductor import ChargingError
from ocs.charging.engine import Engine
from ocs.charging.saga import Saga

T = TypeVar("T")


async def run_saga(runtime: Runtime, saga: Saga[T], engine: Engine | None = None) -> T:
    """Run a saga to its end and give its result; raises the `ChargingError` that ended it.

    It is run on the runtime's engine unless another is given.

    A caller that goes away does not stop the saga: what was begun is committed or refused as a whole.
    """
    future: asyncio.Future[T | ChargingError] = asyncio.get_running_loop().create_future()

    def done(result: T | ChargingError) -> None:
        if not future.done():
            future.set_result(result)

    deadline = runtime.monotonic() + runtime.settings.control.deadline_s
    (engine or runtime.engine).run(saga, deadline, done)
    result = await future
    if isinstance(result, ChargingError):
        raise result
    return result
