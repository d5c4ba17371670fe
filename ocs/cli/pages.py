"""Lists that come in pages."""

from __future__ import annotations

from typing import Any

from ocs.cli.connection import Api, Json, run


def fetch(config: str | None, path: str, limit: int, cursor: str | None, every: bool, **query: Any) -> Json:
    """One page, or with `every` all of them joined; `items` and `next` as the interface gives them.

    A page that is empty and yet has a `next` was a search that has not come to an end: it is followed.
    """

    async def work(api: Api) -> Json:
        page = await api.get(path, limit=limit, cursor=cursor, **query)
        items = page["items"]
        while page["next"] is not None and (every or not items):
            page = await api.get(path, limit=limit, cursor=page["next"], **query)
            items += page["items"]
        return {**page, "items": items}

    return run(config, work)
