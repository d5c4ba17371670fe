"""Where the Redis server of the tests is: the machine's own, or the one that `make test` unpacked.

usage: python3 tools/redis_server.py
"""

from __future__ import annotations

import functools
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tools import fetch_tools


@functools.cache
def find_redis_server() -> Path:
    """Path of a `redis-server` that works; `FileNotFoundError` with the command that fetches it if there is none."""
    found = fetch_tools.find("redis-server")
    if found is None:
        raise FileNotFoundError("redis-server is missing: `make redis` fetches it into .tools")
    return Path(found)


if __name__ == "__main__":
    print(find_redis_server())
