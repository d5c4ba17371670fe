"""A Gy server as one would write it today on PyPI `python-diameter` and `redis-py`, measured beside ours.

    python -m bench.reference_server --redis unix:///path/redis.sock --price 100:10000000:13000:1000000:100000

It really debits: balance and reservation of an account are a hash, a session is a hash, and one Lua script per CCR prices
what was used (cumulative, in started steps), debits it, reserves the next quota and refuses what the balance does not
hold. A repeated request number is answered as before and not debited again. It does less than ours: no ledger, no CDRs, no
buckets, no expiry of reservations, and hardly a check of what a client sends. Accounts are hashes `account:<E.164>` with
`balance` and `reserved` in micro-units. The port that it listens on is the first line of its output.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
from collections.abc import Sequence
from typing import Any

import redis.asyncio
from diameter.message import Message
from diameter.message.avp.grouped import GrantedServiceUnit, MultipleServicesCreditControl
from diameter.message.commands import CreditControlRequest
from redis.asyncio.connection import BlockingConnectionPool

from bench.gy.plan import Price, parse_price

ORIGIN_HOST, ORIGIN_REALM = b"reference.example.net", b"example.net"
SUCCESS, LIMIT_REACHED, UNKNOWN_USER, UNKNOWN_RATING_GROUP = 2001, 4012, 5030, 5031
TERMINATION = 3
REDIS_CONNECTIONS = 64
SESSION_TTL_S = 3600

CHARGE = """
-- KEYS: account, session. ARGV: request number, whether the session ends, seconds to keep it, then for each service:
-- rating group, used, whether quota is wanted, quota, price, per, step. Gives what is granted of each, -1: refused.
local balance = redis.call('HGET', KEYS[1], 'balance')
if not balance then return false end
local seen = redis.call('HGET', KEYS[2], 'answer:' .. ARGV[1])
if seen then return cjson.decode(seen) end
balance = tonumber(balance)
local reserved = tonumber(redis.call('HGET', KEYS[1], 'reserved') or '0')
local function cost(total, price, per, step)
  return math.ceil(math.ceil(total / step) * step * price / per)
end
local granted = {}
for at = 4, #ARGV, 7 do
  local group, used, wanted = ARGV[at], tonumber(ARGV[at + 1]), ARGV[at + 2] == '1'
  local quota, price = tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4])
  local per, step = tonumber(ARGV[at + 5]), tonumber(ARGV[at + 6])
  local kept = redis.call('HMGET', KEYS[2], 'total:' .. group, 'held:' .. group)
  local total, held = tonumber(kept[1] or '0'), tonumber(kept[2] or '0')
  balance = balance - (cost(total + used, price, per, step) - cost(total, price, per, step))
  reserved = reserved - held
  total, held = total + used, 0
  local answer = 0
  if wanted then
    held = cost(total + quota, price, per, step) - cost(total, price, per, step)
    if balance - reserved >= held then answer = quota else held, answer = 0, -1 end
    reserved = reserved + held
  end
  granted[#granted + 1] = answer
  redis.call('HSET', KEYS[2], 'total:' .. group, string.format('%.0f', total), 'held:' .. group, string.format('%.0f', held))
end
redis.call('HSET', KEYS[1], 'balance', string.format('%.0f', balance), 'reserved', string.format('%.0f', reserved))
redis.call('HSET', KEYS[2], 'answer:' .. ARGV[1], cjson.encode(granted))
redis.call('HDEL', KEYS[2], 'answer:' .. (tonumber(ARGV[1]) - 2))
redis.call('EXPIRE', KEYS[2], ARGV[3])
return granted
"""


class ReferenceServer:
    """One process: connections, the prices, and Redis."""

    def __init__(self, url: str, prices: Sequence[Price]) -> None:
        pool = BlockingConnectionPool.from_url(url, max_connections=REDIS_CONNECTIONS, timeout=10)
        self._redis = redis.asyncio.Redis(connection_pool=pool)
        self._charge = self._redis.register_script(CHARGE)
        self._prices = {price.rating_group: price for price in prices}
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, port: int) -> None:
        """Listen and serve until cancelled."""
        server = await asyncio.start_server(self._connection, "127.0.0.1", port)
        print(server.sockets[0].getsockname()[1], flush=True)
        async with server:
            await server.serve_forever()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readexactly(20)
                body = await reader.readexactly(int.from_bytes(head[1:4], "big") - 20)
                message = Message.from_bytes(head + body)
                if isinstance(message, CreditControlRequest):
                    task = asyncio.create_task(self._answer_charge(message, writer))
                    self._tasks.add(task)
                    task.add_done_callback(self._tasks.discard)
                elif message.header.is_request:
                    writer.write(_answer_base(message).as_bytes())
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def _answer_charge(self, request: CreditControlRequest, writer: asyncio.StreamWriter) -> None:
        answer = await self._charged(request)
        if not writer.is_closing():
            writer.write(answer.as_bytes())

    async def _charged(self, request: CreditControlRequest) -> Any:
        answer: Any = request.to_answer()
        answer.session_id = request.session_id
        answer.origin_host, answer.origin_realm = ORIGIN_HOST, ORIGIN_REALM
        answer.auth_application_id = 4
        answer.cc_request_type, answer.cc_request_number = request.cc_request_type, request.cc_request_number
        services = request.multiple_services_credit_control
        known = [one for one in services if one.rating_group in self._prices]
        numbers = [one.subscription_id_data for one in request.subscription_id if one.subscription_id_type == 0]
        if not numbers:
            answer.result_code = UNKNOWN_USER
            return answer
        ends = request.cc_request_type == TERMINATION
        arguments: list[Any] = [request.cc_request_number, int(ends), SESSION_TTL_S]
        for service in known:
            arguments += [service.rating_group, _used(service), int(service.requested_service_unit is not None)]
            arguments += self._prices[service.rating_group][1:]
        keys = [f"account:{numbers[0]}", f"session:{request.session_id}"]
        granted = await self._charge(keys=keys, args=arguments)
        answer.result_code = UNKNOWN_USER if granted is None else SUCCESS
        if granted is not None:
            units = dict(zip((one.rating_group for one in known), granted, strict=True))
            answer.multiple_services_credit_control = [_service(one, units) for one in services]
        return answer


def _used(service: MultipleServicesCreditControl) -> int:
    return sum(one.cc_total_octets or 0 for one in service.used_service_unit)


def _service(asked: MultipleServicesCreditControl, units: dict[int, int]) -> MultipleServicesCreditControl:
    granted = units.get(asked.rating_group)
    service = MultipleServicesCreditControl(rating_group=asked.rating_group)
    service.result_code = UNKNOWN_RATING_GROUP if granted is None else LIMIT_REACHED if granted < 0 else SUCCESS
    if granted is not None and granted > 0:
        service.granted_service_unit = GrantedServiceUnit(cc_total_octets=granted)
        service.validity_time = 3600
    return service


def _answer_base(request: Any) -> Any:
    """To a CER, DWR or DPR."""
    answer = request.to_answer()
    answer.result_code = SUCCESS
    answer.origin_host, answer.origin_realm = ORIGIN_HOST, ORIGIN_REALM
    if request.header.command_code == 257:
        answer.host_ip_address = ["127.0.0.1"]
        answer.vendor_id, answer.product_name = 0, "reference"
        answer.auth_application_id = [4]
    return answer


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m bench.reference_server", description=__doc__)
    parser.add_argument("--redis", required=True, metavar="URL")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--price", type=parse_price, action="append", required=True, dest="prices")
    options = parser.parse_args(arguments)
    logging.getLogger("diameter").setLevel(logging.CRITICAL)
    asyncio.run(ReferenceServer(options.redis, options.prices).serve(options.port))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
