"""Routes of accounts and their ledger."""

from __future__ import annotations

from litestar import Controller, get, post
from litestar.params import FromPath, JSONBody

from balance.account import AccountStatus, BucketKind
from balance.documents import home_partition
from ocs.api.bodies import Change, NewAccount, NewAdjustment, NewTopUp
from ocs.api.bridge import run_saga
from ocs.api.common import Cursor, Http, Json, Limit, find_currency, order_of, path_name, runtime_of, with_code
from ocs.charging import queries
from ocs.charging.account_operations import TopUp, adjust, create_account, set_status, top_up
from ocs.charging.operations import OperationRefused


class Accounts(Controller):
    """Who pays."""

    path = "/accounts"
    tags = ("accounts",)

    @post(summary="Create an account")
    async def create(self, request: Http, data: JSONBody[NewAccount]) -> Json:
        """Create an active account with an empty main bucket."""
        runtime, order = runtime_of(request), order_of(request, data)
        account, currency = path_name("account", data.account), find_currency(data.currency)
        # Any partition would do, and it is stored with the account; hashing the name spreads accounts evenly.
        partition = home_partition("account", account, runtime.engine.store.partitions)
        saga = create_account(
            runtime.engine,
            order,
            account,
            currency.numeric,
            currency.exponent,
            data.credit_limit_micros,
            partition,
        )
        return with_code(await run_saga(runtime, saga))

    @get(summary="List accounts")
    async def list(self, request: Http, cursor: Cursor = None, limit: Limit = 100) -> Json:
        """A page of accounts."""
        runtime = runtime_of(request)
        page = await run_saga(runtime, queries.list_accounts(runtime.engine, cursor, limit))
        return {**page, "items": [with_code(item) for item in page["items"]]}

    @get("/{account:str}", summary="Show an account")
    async def show(self, request: Http, account: FromPath[str]) -> Json:
        """One account with its buckets and the ids of its subscribers."""
        runtime = runtime_of(request)
        return with_code(await run_saga(runtime, queries.show_account(runtime.engine, account)))

    @post("/{account:str}/topup", status_code=200, summary="Top up")
    async def top_up(self, request: Http, account: FromPath[str], data: JSONBody[NewTopUp]) -> Json:
        """Put money into the main bucket, or money with an end or a purpose, or units, into a bucket of its own."""
        runtime, order = runtime_of(request), order_of(request, data)
        if data.valid_until_s is not None and data.valid_for_s is not None:
            raise OperationRefused("invalid", "valid_for_s", "expected only one of valid_until_s and valid_for_s")
        what = TopUp(
            amount=data.amount,
            kind=BucketKind[data.kind.upper()],
            valid_until_s=data.valid_until_s or 0,
            valid_for_s=data.valid_for_s or 0,
            priority=data.priority,
            service_context=data.service_context,
            rating_group=-1 if data.rating_group is None else data.rating_group,
        )
        return with_code(await run_saga(runtime, top_up(runtime.engine, order, account, what)))

    @post("/{account:str}/adjust", status_code=200, summary="Adjust a bucket")
    async def adjust(self, request: Http, account: FromPath[str], data: JSONBody[NewAdjustment]) -> Json:
        """Correct a bucket by an amount of either sign."""
        runtime, order = runtime_of(request), order_of(request, data)
        kind = BucketKind[data.kind.upper()]
        saga = adjust(runtime.engine, order, account, data.bucket, data.amount, kind)
        return with_code(await run_saga(runtime, saga))

    @post("/{account:str}/suspend", status_code=200, summary="Suspend an account")
    async def suspend(self, request: Http, account: FromPath[str], data: JSONBody[Change]) -> Json:
        """Deny service from the next request on; nothing is taken."""
        return await self._set_status(request, account, data, AccountStatus.SUSPENDED)

    @post("/{account:str}/resume", status_code=200, summary="Resume a suspended account")
    async def resume(self, request: Http, account: FromPath[str], data: JSONBody[Change]) -> Json:
        """Give service again."""
        return await self._set_status(request, account, data, AccountStatus.ACTIVE)

    @post("/{account:str}/close", status_code=200, summary="Close an account")
    async def close(self, request: Http, account: FromPath[str], data: JSONBody[Change]) -> Json:
        """Close an account without sessions and without stock, for good."""
        return await self._set_status(request, account, data, AccountStatus.CLOSED)

    async def _set_status(self, request: Http, account: str, data: Change, status: AccountStatus) -> Json:
        runtime, order = runtime_of(request), order_of(request, data)
        return with_code(await run_saga(runtime, set_status(runtime.engine, order, account, status)))

    @get("/{account:str}/ledger", summary="The ledger of an account")
    async def ledger(self, request: Http, account: FromPath[str], cursor: Cursor = None, limit: Limit = 100) -> Json:
        """Events of an account in the order of their commits, each with its entries.

        A page may be empty and yet have a `next`: the search goes on there.
        """
        runtime = runtime_of(request)
        found = await run_saga(runtime, queries.show_account(runtime.engine, account))
        page = await run_saga(runtime, queries.ledger(runtime.engine, account, cursor, limit))
        coded = with_code(found)
        return {
            "account": account,
            "currency_code": coded["currency_code"],
            "exponent": coded["exponent"],
            **page,
        }
