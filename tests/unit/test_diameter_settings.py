"""Section `[diameter]`: defaults that are documented, and mistakes that are named."""

from __future__ import annotations

import ipaddress

import msgspec
import pytest

from ocs.servers.diameter_settings import DiameterSettings, PeerSettings, gy_profiles, node_settings
from ocs.servers.gy import PeerProfile
from protocols.diameter.answers import Local
from protocols.diameter.settings import UnknownPeers

LOCAL = Local("ocs1.example.com", "example.com", 1)


def test_db_001_the_default_port_is_3868() -> None:
    # DB-001: "Accept TCP on 3868"
    assert DiameterSettings().port == 3868


def test_db_085_unknown_peers_are_accepted_from_loopback_by_default() -> None:
    # DB-085: "Default: accept from loopback, reject elsewhere"
    assert node_settings(DiameterSettings(), LOCAL).unknown_peers is UnknownPeers.ACCEPT_LOOPBACK


def test_a_section_becomes_the_settings_of_the_node() -> None:
    table = {
        "port": 0,
        "plain_networks": ["10.0.0.0/8"],
        "realms": ["mvno.example"],
        "watchdog_s": 12,
        "peers": [
            {
                "origin_host": "GW1.example.net",
                "networks": ["192.0.2.4", "2001:db8::/32"],
                "tolerate_vendors": [9],
                "tolerate_avps": ["8164:5"],
                "gy": {"quota_key": "rg+si"},
            },
            {"origin_host": "smf.behind.relay"},
        ],
    }
    settings = msgspec.convert(table, DiameterSettings)
    node = node_settings(settings, LOCAL, "product")
    (peer,) = node.peers
    assert peer.networks == (ipaddress.ip_network("192.0.2.4/32"), ipaddress.ip_network("2001:db8::/32"))
    assert peer.tolerated == {9, 8164 << 32 | 5}
    assert (node.realms, node.watchdog_s, node.product_name) == (("mvno.example",), 12.0, "product")
    profiles = gy_profiles(settings)
    assert profiles["gw1.example.net"].quota_key == "rg+si"
    assert profiles["smf.behind.relay"] == PeerProfile()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"plain_networks": ("10.0.0.1/8",)}, "plain_networks"),
        ({"host_ip_addresses": ("ocs",)}, "host_ip_addresses"),
        ({"listen": "everywhere"}, "expected an IP address"),
        ({"peers": (PeerSettings(origin_host="a"), PeerSettings(origin_host="A"))}, "a stands twice"),
    ],
)
def test_mistakes_are_named(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DiameterSettings(**fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "table",
    [{"watchdog_s": 5}, {"max_message_octets": 100}, {"peers": [{"origin_host": "a", "tolerate_avps": ["cisco:1"]}]}],
)
def test_values_out_of_bounds_are_refused(table: dict[str, object]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(table, DiameterSettings)


def test_networks_of_a_peer_are_networks() -> None:
    with pytest.raises(ValueError, match="networks"):
        PeerSettings(origin_host="a", networks=("10.0.0.0/33",))
