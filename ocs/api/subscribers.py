"""Routes of subscribers and their identities."""

from __future__ import annotations

from litestar import Controller, get, post
from litestar.params import FromPath, FromQuery, JSONBody

from balance.account import AccountStatus
from ocs.api.bodies import Change, IdentityEdit, NewSubscriber, SubscriberEdit
from ocs.api.bridge import run_saga
from ocs.api.common import Cursor, Http, Json, Limit, order_of, path_name, read_identity, runtime_of, with_code
from ocs.charging import queries
from ocs.charging.identities import find_subscriber
from ocs.charging.operations import OperationRefused
from ocs.charging.subscriber_operations import (
    add_identity,
    add_subscriber,
    change_subscriber,
    remove_identity,
    remove_subscriber,
)


class Subscribers(Controller):
    """Who uses the service."""

    path = "/subscribers"
    tags = ("subscribers",)

    @post(summary="Add a subscriber")
    async def add(self, request: Http, data: JSONBody[NewSubscriber]) -> Json:
        """Add a subscriber to an account, with the identities under which the networks know it."""
        runtime, order = runtime_of(request), order_of(request, data)
        identities = [read_identity(one.kind, one.value) for one in data.identities]
        if len(set(identities)) != len(identities):
            raise OperationRefused("invalid", "identities", "the same identity stands twice")
        subscriber = path_name("subscriber", data.subscriber)
        saga = add_subscriber(runtime.engine, order, subscriber, data.account, data.plan, identities)
        return await run_saga(runtime, saga)

    @get(summary="List subscribers")
    async def list(
        self, request: Http, identity: FromQuery[str | None] = None, cursor: Cursor = None, limit: Limit = 100
    ) -> Json:
        """A page of subscribers, or the one that an `identity` (`kind:value`) leads to."""
        runtime = runtime_of(request)
        if identity is None:
            return await run_saga(runtime, queries.list_subscribers(runtime.engine, cursor, limit))
        target = await run_saga(runtime, find_subscriber(runtime.engine, identity))
        found = await run_saga(runtime, queries.show_subscriber(runtime.engine, target.subscriber))
        return {"items": [{name: value for name, value in found.items() if name != "balance"}], "next": None}

    @get("/{subscriber:str}", summary="Show a subscriber")
    async def show(self, request: Http, subscriber: FromPath[str]) -> Json:
        """One subscriber, by its id or any identity, with its account as `balance`."""
        runtime = runtime_of(request)
        found = await run_saga(runtime, queries.show_subscriber(runtime.engine, subscriber))
        return {**found, "balance": with_code(found["balance"])}

    @post("/{subscriber:str}/change", status_code=200, summary="Change plan or status")
    async def change(self, request: Http, subscriber: FromPath[str], data: JSONBody[SubscriberEdit]) -> Json:
        """Change plan or status; running sessions take it over at their next report."""
        runtime, order = runtime_of(request), order_of(request, data)
        if data.plan is None and data.status is None:
            raise OperationRefused("invalid", "plan", "nothing to change, expected a plan or a status")
        status = None if data.status is None else AccountStatus[data.status.upper()]
        return await run_saga(runtime, change_subscriber(runtime.engine, order, subscriber, data.plan, status))

    @post("/{subscriber:str}/remove", status_code=200, summary="Remove a subscriber")
    async def remove(self, request: Http, subscriber: FromPath[str], data: JSONBody[Change]) -> Json:
        """Remove a subscriber; its open sessions are closed at their next report."""
        runtime, order = runtime_of(request), order_of(request, data)
        return await run_saga(runtime, remove_subscriber(runtime.engine, order, subscriber))

    @post("/{subscriber:str}/identities/add", status_code=200, summary="Add an identity")
    async def add_identity(self, request: Http, subscriber: FromPath[str], data: JSONBody[IdentityEdit]) -> Json:
        """Give a subscriber one more identity; running sessions go on."""
        runtime, order = runtime_of(request), order_of(request, data)
        identity = read_identity(data.identity.kind, data.identity.value)
        return await run_saga(runtime, add_identity(runtime.engine, order, subscriber, identity))

    @post("/{subscriber:str}/identities/remove", status_code=200, summary="Remove an identity")
    async def remove_identity(self, request: Http, subscriber: FromPath[str], data: JSONBody[IdentityEdit]) -> Json:
        """Take an identity from a subscriber; running sessions go on, new ones under it do not start."""
        runtime, order = runtime_of(request), order_of(request, data)
        identity = read_identity(data.identity.kind, data.identity.value)
        return await run_saga(runtime, remove_identity(runtime.engine, order, subscriber, identity))
