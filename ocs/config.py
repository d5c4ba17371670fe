"""What an operator may set: one TOML file, read once into frozen values.

Every setting has a default, so the program runs without a file. All problems of a file are collected, each with its
line and field. Names carry their unit (`_s` seconds, `_octets`).

ConfigError
    carries every Problem that was found, in order of lines
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

import msgspec
from msgspec import Meta

from balance.redis_address import parse_url
from ocs.archive.settings import ArchiveSettings
from ocs.charging.settings import ChargingSettings
from ocs.servers.diameter_settings import DiameterSettings

DEFAULT_HOME = "ocs-data"
"""Folder of the state where `OCS_HOME` is not set, in the working directory."""

CONFIG_NAME = "ocs.toml"
"""Name of the file that is read from the home folder if no other is named."""

MAX_FILE_OCTETS = 1024 * 1024
"""Longest configuration file."""

MAX_SOCKET_PATH_OCTETS = 107
"""Longest path of a unix socket on Linux."""

MAX_PORT = 65535

_IDENTITY = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*")

T = TypeVar("T", bound=msgspec.Struct)


class NodeSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Section `[node]`: who this server is."""

    origin_host: Annotated[str, Meta(min_length=1, max_length=255)] = "ocs.localdomain"
    """Origin-Host: this server's DiameterIdentity, a fully qualified name."""
    origin_realm: Annotated[str, Meta(min_length=1, max_length=255)] = "localdomain"
    """Origin-Realm."""
    product_name: Annotated[str, Meta(min_length=1, max_length=255)] = "tollgate-ocs"
    """Product-Name that peers are told."""

    def __post_init__(self) -> None:
        """Refuse names that no peer would accept."""
        for name in ("origin_host", "origin_realm"):
            if not _IDENTITY.fullmatch(getattr(self, name)):
                raise ValueError(f"{name}: {getattr(self, name)!r}, expected a host name such as ocs.example.net")


class StoreSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Section `[store]`: where the money is kept."""

    engine: Literal["sqlite", "redis"] = "sqlite"
    """`sqlite`: a file, for one process. `redis`: a server, for several."""
    path: Annotated[str, Meta(min_length=1)] = "ocs.sqlite"
    """The SQLite file; a relative path starts at the home folder."""
    url: str = "redis://127.0.0.1:6379/0"
    """Where Redis is; may hold user and password."""
    level: Literal["safe", "fast"] = "safe"
    """What an answer promises: `safe` survives a power cut, `fast` a crash of Redis. SQLite is always `safe`."""
    timeout_ms: Annotated[int, Meta(ge=50, le=10_000)] = 1000
    """How long one call of Redis may take."""
    partitions: Annotated[int, Meta(ge=1, le=999)] = 64
    """Partitions of a store that is made; fixed from then on."""

    def __post_init__(self) -> None:
        """Refuse a level that the engine does not have, and a url that cannot be read."""
        if self.engine == "sqlite" and self.level != "safe":
            raise ValueError(f"level: {self.level!r}, expected 'safe': the engine is 'sqlite'")
        try:
            parse_url(self.url)
        except ValueError as error:
            raise ValueError(f"url: {error}") from None

    @property
    def shown_url(self) -> str:
        """The url without its password, for people."""
        return parse_url(self.url).shown


class WorkersSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Section `[workers]`: the processes that charge."""

    count: Annotated[int, Meta(ge=1, le=64)] = 1
    """How many `ocs serve` starts and watches; 1: it charges itself."""


class ControlSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Section `[control]`: where operators reach a running server."""

    socket: str = ""
    """Unix socket of the HTTP interface, mode 0600; empty: the store's path with `.sock` appended."""
    deadline_s: Annotated[int, Meta(ge=1, le=600)] = 10
    """How long one request of an operator may take."""


class LogSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Section `[log]`: what is written to standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severe messages that are written."""
    form: Literal["auto", "text", "json"] = "auto"
    """`auto`: text on a terminal, else one JSON object to a line."""


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole configuration."""

    node: NodeSettings = NodeSettings()
    store: StoreSettings = StoreSettings()
    workers: WorkersSettings = WorkersSettings()
    control: ControlSettings = ControlSettings()
    diameter: DiameterSettings = DiameterSettings()
    charging: ChargingSettings = ChargingSettings()
    archive: ArchiveSettings = ArchiveSettings()
    log: LogSettings = LogSettings()
    home: str = DEFAULT_HOME
    """Folder of the state. Not a field of the file: from `OCS_HOME`."""
    file: str | None = None
    """The file that was read; `None`: all defaults. Not a field of the file."""
    worker: int = 0
    """Number of the worker whose settings these are, from 0. Not a field of the file: from `for_worker`."""

    @property
    def archive_path(self) -> Path:
        """Folder of the archive."""
        return Path(self.home) / self.archive.folder

    @property
    def store_path(self) -> Path:
        """Path of the SQLite file."""
        return Path(self.home) / self.store.path

    @property
    def socket_path(self) -> Path:
        """Path of this worker's control socket."""
        return self.socket_path_of(self.worker)

    def socket_path_of(self, worker: int) -> Path:
        """Path of a worker's control socket: that of the configuration for worker 0, with `.1` appended for worker 1."""
        if self.control.socket:
            first = Path(self.home) / self.control.socket
        else:
            first = self.store_path.with_name(self.store_path.name + ".sock")
        return first.with_name(f"{first.name}.{worker}") if worker else first

    def socket_paths(self) -> list[Path]:
        """Paths of the control sockets of all workers, in order."""
        return [self.socket_path_of(worker) for worker in range(self.workers.count)]

    def for_worker(self, worker: int) -> Settings:
        """Settings of one worker: its own control socket and Diameter port."""
        port = self.diameter.port and self.diameter.port + worker
        diameter = msgspec.structs.replace(self.diameter, port=port)
        return msgspec.structs.replace(self, diameter=diameter, worker=worker)


class Problem(NamedTuple):
    """One thing that is wrong with a file."""

    file: str
    line: int
    """From 1; 0: of the file as a whole."""
    field: str
    """Dotted name such as `store.partitions`; empty: of the file as a whole."""
    message: str

    def __str__(self) -> str:
        """`file:line: field: what is wrong`, on one line."""
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.field}: {self.message}" if self.field else f"{place}: {self.message}"


class ConfigError(Exception):
    """The configuration cannot be used; `problems` says why, and is never empty."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        """Keep the problems in order of their lines."""
        self.problems = sorted(problems, key=lambda problem: problem.line)
        super().__init__("\n".join(str(problem) for problem in self.problems))


def load_settings(path: str | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """Read the configuration: `path`, else the file that `OCS_CONFIG` names, else `ocs.toml` of the home folder if any.

    A file that was named must exist; `ConfigError` holds every problem found.
    """
    environ = os.environ if environ is None else environ
    home = environ.get("OCS_HOME") or DEFAULT_HOME
    named = path or environ.get("OCS_CONFIG")
    place = Path(named) if named else Path(home) / CONFIG_NAME
    if not named and not place.exists():
        return checked_paths(Settings(home=home), "")
    try:
        data = place.read_bytes()
    except OSError as error:
        raise ConfigError([Problem(str(place), 0, "", f"cannot be read: {error.strerror or error}")]) from None
    if len(data) > MAX_FILE_OCTETS:
        raise ConfigError([Problem(str(place), 0, "", f"{len(data)} octets, expected at most {MAX_FILE_OCTETS}")])
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError([Problem(str(place), line, "", "expected UTF-8 text")]) from None
    return parse_settings(text, str(place), home)


def parse_settings(text: str, filename: str, home: str = DEFAULT_HOME) -> Settings:
    """Settings from TOML text; `filename` stands in messages. `ConfigError` holds every problem found."""
    text = text.replace("\r\n", "\n")
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([_syntax_problem(str(error), filename)]) from None
    except (RecursionError, ValueError):
        raise ConfigError([Problem(filename, 0, "", "a value is too deep or too long")]) from None
    reader = _Reader(text, filename)
    for name in ("home", "file", "worker"):
        if name in document:
            reader.problem((name,), "unknown field")
            del document[name]
    settings = reader.struct(Settings, document, ())
    if settings is not None:
        _check_workers(settings, reader)
    if settings is None or reader.problems:
        raise ConfigError(reader.problems)
    return checked_paths(msgspec.structs.replace(settings, home=home, file=filename), filename)


def checked_paths(settings: Settings, filename: str) -> Settings:
    """The settings themselves; `ConfigError` if the control socket's path is longer than the system takes."""
    path = settings.socket_path_of(settings.workers.count - 1)
    octets = len(os.fsencode(path))
    if octets > MAX_SOCKET_PATH_OCTETS:
        message = f"{path}: {octets} octets, expected at most {MAX_SOCKET_PATH_OCTETS}"
        raise ConfigError([Problem(filename or "defaults", 0, "control.socket", message)])
    return settings


def _check_workers(settings: Settings, reader: _Reader) -> None:
    """What several workers need: a store that processes can share, and a port for each."""
    count = settings.workers.count
    if count > 1 and settings.store.engine == "sqlite":
        message = f'{count}: one process holds an SQLite store, expected 1, or store.engine = "redis"'
        reader.problem(("workers", "count"), message)
    last = settings.diameter.port + count - 1
    if settings.diameter.port and last > MAX_PORT:
        message = (
            f"worker {count - 1} would listen on diameter.port + {count - 1} = {last}, expected at most {MAX_PORT}"
        )
        reader.problem(("workers", "count"), message)


_TOML_PLACE = re.compile(r" *\(at (?:line ([0-9]+), column [0-9]+|end of document)\)$")
_EXPECTED = re.compile(r"^Expected `(.+?)`(?:, got `(.+?)`)?(?: - at `.*`)?$")
_WORDS = {
    "int": "an integer",
    "str": "a text in quotes",
    "bool": "true or false",
    "float": "a number",
    "array": "a list",
    "object": "a table",
    "null": "nothing",
    "int | null": "an integer",
    "str | null": "a text in quotes",
    "bool | null": "true or false",
}


def _syntax_problem(message: str, filename: str) -> Problem:
    found = _TOML_PLACE.search(message)
    line = int(found[1]) if found and found[1] else 0
    what = message[: found.start()] if found else message
    return Problem(filename, line, "", f"not TOML: {what}")


class _Reader:
    """Turns tables into structs field by field, so that one mistake does not hide the next."""

    def __init__(self, text: str, filename: str) -> None:
        self.problems: list[Problem] = []
        self._text = text
        self._filename = filename

    def problem(self, path: tuple[str | int, ...], message: str) -> None:
        """Note a problem of the field at `path`."""
        # Only a file with mistakes pays for finding lines.
        from tariffs.positions import Positions

        line = Positions(self._text).line(path)
        self.problems.append(Problem(self._filename, line, _dotted(path), message))

    def struct(self, kind: type[T], table: object, path: tuple[str | int, ...]) -> T | None:
        """A struct of `kind`, `None` if a problem was noted."""
        if not isinstance(table, dict):
            self.problem(path, f"expected a table, got {_described(table)}")
            return None
        before = len(self.problems)
        fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
        values: dict[str, Any] = {}
        for name, value in table.items():
            field = fields.get(name)
            if field is None:
                self.problem((*path, name), f"unknown field{_hint(name, fields)}")
            else:
                values[field.name] = self._value(field.type, value, (*path, name))
        for name, field in fields.items():
            if field.required and name not in table:
                self.problem(path, f"field {name!r} is missing")
        return self._built(kind, values, path) if len(self.problems) == before else None

    def _built(self, kind: type[T], values: dict[str, Any], path: tuple[str | int, ...]) -> T | None:
        try:
            return kind(**values)
        except ValueError as error:
            name, colon, rest = str(error).partition(": ")
            at = (*path, name) if colon and name in kind.__annotations__ else path
            self.problem(at, rest if at != path else str(error))
            return None

    def _value(self, kind: Any, value: object, path: tuple[str | int, ...]) -> Any:
        element = _element_struct(kind)
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            return self.struct(kind, value, path)
        if element is not None and isinstance(value, list):
            return tuple(self.struct(element, one, (*path, place)) for place, one in enumerate(value))
        try:
            return msgspec.convert(value, kind)
        except msgspec.ValidationError as error:
            self.problem(path, _worded(str(error), value))
            return None


def _element_struct(kind: Any) -> type[msgspec.Struct] | None:
    """The struct of which `kind` is a tuple of any length, if it is one."""
    arguments = typing.get_args(kind)
    if typing.get_origin(kind) is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
        element = arguments[0]
        if isinstance(element, type) and issubclass(element, msgspec.Struct):
            return element
    return None


def _dotted(path: tuple[str | int, ...]) -> str:
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".")


def _hint(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f", did you mean {close[0]!r}?" if close else ""


def _described(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "a list"
    return repr(value)[:60]


def _worded(message: str, value: object) -> str:
    """What msgspec found, in the words of a person who writes TOML, with the value."""
    found = _EXPECTED.match(message)
    shown = _described(value)
    if found is None:
        return f"{shown}: {message[0].lower()}{message[1:].split(' - at ', maxsplit=1)[0]}"
    wanted = found[1]
    return f"expected {_WORDS.get(wanted, wanted)}, got {shown}"
