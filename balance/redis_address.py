"""Where Redis is: its url, taken apart."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit


class Address(NamedTuple):
    """Where Redis is, from a url."""

    host: str
    """Empty: a unix socket."""
    port: int
    path: str
    """Of the unix socket."""
    database: int
    user: str
    password: str
    shown: str
    """The url without its password, for people."""


def parse_url(url: str) -> Address:
    """`redis://[user:password@]host[:port][/database]` or `unix://[user:password@]/path[?db=database]`.

    `ValueError` says what is wrong and never repeats the password.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError("the url of Redis cannot be read, expected redis://host:port/database") from None
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    if parts.scheme == "unix":
        path, name = unquote(parts.path), (parse_qs(parts.query).get("db") or ["0"])[-1]
        if not path.startswith("/") or parts.hostname:
            raise ValueError("the url of a unix socket names an absolute path: unix:///run/redis.sock")
        return Address("", 0, path, _database(name), user, password, f"unix://{path}?db={_database(name)}")
    if parts.scheme != "redis":
        raise ValueError(f"url of kind {parts.scheme!r}, expected redis://host:port/database or unix:///path")
    host = parts.hostname or "127.0.0.1"
    number = _database(parts.path.removeprefix("/") or "0")
    shown_host = f"[{host}]" if ":" in host else host
    shown = f"redis://{shown_host}:{port or 6379}/{number}"
    return Address(host, port or 6379, "", number, user, password, shown)


def _database(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 6):
        raise ValueError(f"database {text!r} in the url of Redis, expected a number")
    return int(text)
