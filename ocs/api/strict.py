"""Bodies are read strictly: `"amount": "1"` is no integer. Litestar by itself would take the text for a number."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Request
from litestar.exceptions import ValidationException


class StrictRequest(Request[Any, Any, Any]):
    """A request whose body is decoded into the struct that its route takes, without any conversion of types."""

    async def json(self) -> Any:
        """The body as the route's struct; `ValidationException` says what is wrong with it."""
        field = self.route_handler.parsed_data_field
        body = await self.body()
        if field is None or not body:
            return await super().json()
        try:
            return msgspec.json.decode(body, type=field.annotation)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise ValidationException(detail=str(error)) from error
