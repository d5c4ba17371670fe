"""The configuration file: defaults, every problem with its line and field, and what is refused."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from ocs.api.system import _sections
from ocs.config import ConfigError, Settings, load_settings, parse_settings
from ocs.servers.diameter_settings import PeerSettings
from ocs.servers.gy import PeerProfile

CONFIGURATION_PAGE = Path(__file__).parents[2] / "docs" / "operate" / "configuration.md"


def problems(text: str) -> list[str]:
    """The messages of a text that is no configuration."""
    with pytest.raises(ConfigError) as caught:
        parse_settings(text, "ocs.toml")
    return [str(problem) for problem in caught.value.problems]


def test_without_a_file_everything_has_a_default(tmp_path: Path) -> None:
    settings = load_settings(None, {"OCS_HOME": str(tmp_path)})
    assert settings.file is None
    assert settings.store_path == tmp_path / "ocs.sqlite"
    assert settings.socket_path == tmp_path / "ocs.sqlite.sock"


def test_home_defaults_to_a_folder_of_the_working_directory() -> None:
    assert load_settings(None, {}).store_path == Path("ocs-data/ocs.sqlite")


def test_the_file_of_the_home_folder_is_read(tmp_path: Path) -> None:
    (tmp_path / "ocs.toml").write_text('[node]\norigin_host = "ocs1.example.net"\n')
    settings = load_settings(None, {"OCS_HOME": str(tmp_path)})
    assert settings.node.origin_host == "ocs1.example.net"
    assert settings.file == str(tmp_path / "ocs.toml")


def test_a_named_file_wins_over_the_environment_and_that_over_the_home_folder(tmp_path: Path) -> None:
    for name in ("a", "b", "ocs"):
        (tmp_path / f"{name}.toml").write_text(f'[node]\norigin_host = "{name}.example.net"\n')
    environ = {"OCS_HOME": str(tmp_path), "OCS_CONFIG": str(tmp_path / "b.toml")}
    assert load_settings(str(tmp_path / "a.toml"), environ).node.origin_host == "a.example.net"
    assert load_settings(None, environ).node.origin_host == "b.example.net"


def test_a_named_file_must_exist(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml: cannot be read: No such file"):
        load_settings(str(tmp_path / "none.toml"), {})


def test_relative_paths_start_at_the_home_folder_and_absolute_ones_stand() -> None:
    text = '[store]\npath = "money.db"\n[control]\nsocket = "/run/ocs.sock"\n'
    settings = parse_settings(text, "ocs.toml", "/var/lib/ocs")
    assert settings.store_path == Path("/var/lib/ocs/money.db")
    assert settings.socket_path == Path("/run/ocs.sock")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[store]\npartitions = 0\n", "ocs.toml:2: store.partitions: 0: expected `int` >= 1"),
        ('[store]\npartitions = "x"\n', "ocs.toml:2: store.partitions: expected an integer, got 'x'"),
        ("[store]\npartitions = true\n", "ocs.toml:2: store.partitions: expected an integer, got true"),
        ("[store]\npath = 5\n", "ocs.toml:2: store.path: expected a text in quotes, got 5"),
        ("[stor]\npath = 5\n", "ocs.toml:1: stor: unknown field, did you mean 'store'?"),
        ("[store]\npaht = 'x'\n", "ocs.toml:2: store.paht: unknown field, did you mean 'path'?"),
        ("store = 5\n", "ocs.toml:1: store: expected a table, got 5"),
        ('home = "/x"\n', "ocs.toml:1: home: unknown field"),
        (
            '\n[node]\norigin_host = "a b"\n',
            "ocs.toml:3: node.origin_host: 'a b', expected a host name such as ocs.example.net",
        ),
        (
            "[charging]\ntombstone_s = 1\n",
            "ocs.toml:1: charging: tombstone_s and event_kept_s: expected at least 600 seconds (CC-042)",
        ),
        (
            '[charging]\necur_no_usu = "x"\n',
            "ocs.toml:2: charging.ecur_no_usu: 'x', expected 'release' or 'debit'",
        ),
        (
            '[store]\nlevel = "fast"\n',
            "ocs.toml:2: store.level: 'fast', expected 'safe': the engine is 'sqlite'",
        ),
        (
            '[store]\nengine = "redis"\nurl = "http://u:secret@redis"\n',
            "ocs.toml:3: store.url: url of kind 'http', expected redis://host:port/database or unix:///path",
        ),
        ('[log]\nlevel = "loud"\n', "ocs.toml:2: log.level: 'loud': invalid enum value 'loud'"),
        ("[store\n", "ocs.toml:1: not TOML: Expected ']' at the end of a table declaration"),
        ("[charging]\nmax_tcc_s = 1.5\n", "ocs.toml:2: charging.max_tcc_s: expected an integer, got 1.5"),
    ],
)
def test_a_mistake_is_told_in_one_line_with_file_line_and_field(text: str, message: str) -> None:
    assert problems(text) == [message]


def test_one_mistake_does_not_hide_the_next() -> None:
    found = problems('[node]\norigin_host = 5\nx = 1\n[store]\npartitions = 0\n[log]\nform = "xml"\n')
    assert [line.split(": ")[1] for line in found] == [
        "node.origin_host",
        "node.x",
        "store.partitions",
        "log.form",
    ]


def test_text_that_is_not_utf8_is_refused_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "ocs.toml").write_bytes(b"[node]\n\xff\n")
    with pytest.raises(ConfigError, match=r"ocs\.toml:2: expected UTF-8 text"):
        load_settings(None, {"OCS_HOME": str(tmp_path)})


def test_a_control_socket_whose_path_is_too_long_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"control\.socket: .* expected at most 107"):
        parse_settings(f'[control]\nsocket = "/{"x" * 107}"\n', "ocs.toml")


REDIS = '[store]\nengine = "redis"\n'


def test_each_worker_has_its_port_and_its_control_socket() -> None:
    settings = parse_settings(REDIS + "[diameter]\nport = 3868\n[workers]\ncount = 3\n", "ocs.toml", "/home/ocs")
    workers = [settings.for_worker(number) for number in range(3)]
    assert [one.diameter.port for one in workers] == [3868, 3869, 3870]
    sockets = [
        Path("/home/ocs/ocs.sqlite.sock"),
        Path("/home/ocs/ocs.sqlite.sock.1"),
        Path("/home/ocs/ocs.sqlite.sock.2"),
    ]
    assert [one.socket_path for one in workers] == settings.socket_paths() == sockets


def test_the_named_control_socket_is_that_of_worker_0() -> None:
    settings = parse_settings(REDIS + '[control]\nsocket = "/run/ocs/c"\n[workers]\ncount = 2\n', "ocs.toml")
    assert settings.socket_paths() == [Path("/run/ocs/c"), Path("/run/ocs/c.1")]


def test_any_free_port_stays_any_free_port() -> None:
    settings = parse_settings(REDIS + "[diameter]\nport = 0\n[workers]\ncount = 2\n", "ocs.toml")
    assert settings.for_worker(1).diameter.port == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "[workers]\ncount = 2\n",
            'ocs.toml:2: workers.count: 2: one process holds an SQLite store, expected 1, or store.engine = "redis"',
        ),
        ("[workers]\ncount = 0\n", "ocs.toml:2: workers.count: 0: expected `int` >= 1"),
        ("[workers]\ncount = 65\n", "ocs.toml:2: workers.count: 65: expected `int` <= 64"),
        (
            REDIS + "[workers]\ncount = 3\n[diameter]\nport = 65534\n",
            "ocs.toml:4: workers.count: worker 2 would listen on diameter.port + 2 = 65536, expected at most 65535",
        ),
        ("worker = 1\n", "ocs.toml:1: worker: unknown field"),
    ],
)
def test_workers_that_cannot_be_are_refused(text: str, message: str) -> None:
    assert problems(text) == [message]


def test_the_control_socket_of_the_last_worker_must_fit() -> None:
    path = "/" + "s" * 105  # 106 octets, and 108 with `.1`
    text = f'[control]\nsocket = "{path}"\n'
    parse_settings(REDIS + text, "ocs.toml")
    assert problems(REDIS + text + "[workers]\ncount = 2\n") == [
        f"ocs.toml: control.socket: {path}.1: 108 octets, expected at most 107"
    ]


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://ocs:secret@redis.example.net:6380/3", "redis://redis.example.net:6380/3"),
        ("redis://:secret@[2001:db8::1]", "redis://[2001:db8::1]:6379/0"),
        ("unix://ocs:secret@/run/redis.sock?db=2", "unix:///run/redis.sock?db=2"),
    ],
)
def test_the_password_of_redis_is_not_shown(url: str, shown: str) -> None:
    settings = parse_settings(f'[store]\nengine = "redis"\nurl = "{url}"\n', "ocs.toml")
    assert settings.store.shown_url == shown
    assert _sections(settings)["store"]["url"] == shown


def test_settings_never_change() -> None:
    with pytest.raises(AttributeError):
        Settings().store.path = "x"  # type: ignore[misc]


def test_every_setting_is_described() -> None:
    source = Path(__import__("ocs.config").config.__file__).read_text().splitlines()
    for section in msgspec.structs.fields(Settings):
        if not (isinstance(section.type, type) and section.type.__module__ == "ocs.config"):
            continue
        for field in msgspec.structs.fields(section.type):
            place = next(n for n, line in enumerate(source) if line.startswith(f"    {field.name}: "))
            assert source[place + 1].startswith('    """'), f"{section.name}.{field.name} has no docstring"


def test_peers_are_read_with_their_profile() -> None:
    text = """
[[diameter.peers]]
origin_host = "pgw1.example.net"
networks = ["192.0.2.0/28"]
[diameter.peers.gy]
quota_key = "rg+si"
[[diameter.peers]]
origin_host = "pgw2.example.net"
"""
    first, second = parse_settings(text, "ocs.toml").diameter.peers
    assert (first.origin_host, first.gy.quota_key) == ("pgw1.example.net", "rg+si")
    assert (second.networks, second.gy) == ((), PeerProfile())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[diameter.peers]]\n", "ocs.toml:1: diameter.peers[0]: field 'origin_host' is missing"),
        (
            '[[diameter.peers]]\norigin_host = "a"\n[diameter.peers.gy]\nform = "x"\n',
            "ocs.toml:4: diameter.peers[0].gy.form: 'x': invalid enum value 'x'",
        ),
        (
            '[[diameter.peers]]\norigin_host = "a"\nnetworks = ["10.0.0.1/8"]\n',
            "ocs.toml:3: diameter.peers[0].networks: '10.0.0.1/8', expected an address or a network such as 10.1.0.0/16",
        ),
        ("[diameter]\npeers = 5\n", "ocs.toml:2: diameter.peers: expected a list, got 5"),
        ("[diameter]\npeers = [5]\n", "ocs.toml:2: diameter.peers[0]: expected a table, got 5"),
        ("[diameter]\nwatchdog_s = 1\n", "ocs.toml:2: diameter.watchdog_s: 1: expected `float` >= 6.0"),
    ],
)
def test_a_mistake_in_a_peer_is_told_by_its_place(text: str, message: str) -> None:
    assert problems(text) == [message]


def documented(section: str) -> dict[str, str]:
    """setting -> default, as the page's table of a section says."""
    page = CONFIGURATION_PAGE.read_text()
    part = page.split(f"### `{section}`\n", 1)[1].split("\n### ", 1)[0]
    rows = [line.split("|") for line in part.splitlines() if line.startswith("| `")]
    return {cells[1].strip().strip("`"): cells[2].strip() for cells in rows}


def shown(default: object) -> str:
    """A default as the page writes it."""
    if default is msgspec.NODEFAULT:
        return "*(required)*"
    if default is None or default == ():
        return "*(none)*"
    if default == "":
        return "*(empty)*"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    if isinstance(default, tuple):
        return ", ".join(f"`{one}`" for one in default)
    return f"`{default}`"


SECTIONS: dict[str, type[msgspec.Struct]] = {
    **{
        f"[{field.name}]": field.type
        for field in msgspec.structs.fields(Settings)
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct)
    },
    "[[diameter.peers]]": PeerSettings,
    "[diameter.peers.gy]": PeerProfile,
}


@pytest.mark.parametrize("section", SECTIONS)
def test_the_page_tells_every_setting_with_its_default(section: str) -> None:
    nested = ("peers", "gy")
    fields = [field for field in msgspec.structs.fields(SECTIONS[section]) if field.name not in nested]
    assert documented(section) == {field.name: shown(field.default) for field in fields}
