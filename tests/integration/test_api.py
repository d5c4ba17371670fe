"""The HTTP interface over an engine in memory: every route, who and why in the ledger, keys, pages, and bad input."""

from __future__ import annotations

from typing import Any

import pytest

from balance.store import StoreFailure
from ocs.api.bodies import MAX_REASON_CHARACTERS
from ocs.charging.requests import Identity
from tests.support.charging_kit import CATALOGUE_PATH, CENT, MIB, START_US, report, want
from tests.support.operate_kit import ApiClient, KitRuntime, snapshot

START_S = START_US // 1_000_000
EUR = 978


@pytest.fixture
def runtime() -> KitRuntime:
    """A runtime with an empty store."""
    return KitRuntime()


@pytest.fixture
def api(runtime: KitRuntime) -> ApiClient:
    """Its interface, asked by the user `operator`."""
    return ApiClient(runtime)


@pytest.fixture
def account(api: ApiClient) -> str:
    """An account with five euros."""
    api.post("/v1/accounts", account="a", currency="EUR", key="create-a")
    api.post("/v1/accounts/a/topup", amount=500 * CENT, key="topup-a")
    return "a"


@pytest.fixture
def subscriber(api: ApiClient, account: str) -> str:
    """Its subscriber."""
    identities = [{"kind": "e164", "value": "+44 7700 900123"}, {"kind": "imsi", "value": "234150000000001"}]
    api.post("/v1/subscribers", subscriber="s", account=account, plan="d10", identities=identities)
    return "s"


def events(api: ApiClient, account: str = "a") -> list[Any]:
    """The ledger of an account."""
    found: list[Any] = api.get(f"/v1/accounts/{account}/ledger")["items"]
    return found


# Accounts


def test_an_account_is_created_empty_and_active(api: ApiClient) -> None:
    status, answer = api.call(
        "POST", "/v1/accounts", {"account": "a", "currency": "eur", "credit_limit_micros": 5, "reason": "new"}
    )
    assert status == 201
    key = answer.pop("key")
    assert len(key) == 16
    assert answer == {
        "account": "a",
        "status": "active",
        "currency": EUR,
        "exponent": 2,
        "credit_limit_micros": 5,
        "balance_micros": 0,
        "reserved_micros": 0,
        "available_micros": 0,
        "open_sessions": 0,
        "created_s": START_S,
        "buckets": [
            {
                "bucket": 0,
                "kind": "money",
                "posted": 0,
                "reserved": 0,
                "free": 0,
                "priority": 0,
                "valid_until_s": None,
                "service_context": None,
                "rating_group": None,
            }
        ],
        "currency_code": "EUR",
        "repeated": False,
    }


def test_money_goes_to_the_main_bucket_and_anything_else_to_one_of_its_own(api: ApiClient, account: str) -> None:
    api.post("/v1/accounts/a/topup", amount=15 * MIB, kind="octets", priority=1, rating_group=100)
    api.post("/v1/accounts/a/topup", amount=7, valid_until_s=START_S + 60, service_context="32251@3gpp.org")
    found = api.get("/v1/accounts/a")
    shown = [
        (
            b["bucket"],
            b["kind"],
            b["posted"],
            b["priority"],
            b["valid_until_s"],
            b["service_context"],
            b["rating_group"],
        )
        for b in found["buckets"]
    ]
    assert shown == [
        (0, "money", 5_000_000, 0, None, None, None),
        (1, "octets", 15 * MIB, 1, None, None, 100),
        (2, "money", 7, 0, START_S + 60, "32251@3gpp.org", None),
    ]
    assert found["balance_micros"] == 5_000_007


def test_a_validity_counted_from_the_change_repeats_under_its_key(
    runtime: KitRuntime, api: ApiClient, account: str
) -> None:
    body = {"amount": 1, "kind": "events", "valid_for_s": 60, "key": "k"}
    first = api.post("/v1/accounts/a/topup", **body)
    runtime.kit.now_us += 5_000_000
    again = api.post("/v1/accounts/a/topup", **body)
    assert first["buckets"][1]["valid_until_s"] == START_S + 60
    assert again == {**first, "repeated": True}


def test_an_adjustment_goes_up_and_down(api: ApiClient, account: str) -> None:
    api.post("/v1/accounts/a/adjust", amount=-2_000_000)
    assert api.post("/v1/accounts/a/adjust", amount=500_000)["balance_micros"] == 3_500_000


def test_an_account_is_suspended_resumed_and_closed(api: ApiClient, account: str) -> None:
    assert api.post("/v1/accounts/a/suspend")["status"] == "suspended"
    assert api.post("/v1/accounts/a/resume")["status"] == "active"
    status, kind, field, message = api.refused("/v1/accounts/a/close", {"reason": "x"})
    assert (status, kind, field) == (409, "conflict", "account")
    assert message == "buckets 0 are not empty; adjust them to zero first"
    api.post("/v1/accounts/a/adjust", amount=-5_000_000)
    assert api.post("/v1/accounts/a/close")["status"] == "closed"
    assert api.refused("/v1/accounts/a/topup", {"amount": 1, "reason": "x"})[:3] == (409, "conflict", "account")


def test_the_ledger_tells_who_why_and_what_moved(api: ApiClient, account: str) -> None:
    created, topped_up = events(api)
    assert (created["operation"], created["who"], created["reason"]) == ("create", "operator", "a test")
    assert (topped_up["operation"], topped_up["key"], topped_up["kind"]) == ("topup", "topup-a", "operation")
    assert topped_up["entries"] == [
        {
            "bucket": 0,
            "kind": "money",
            "verb": "top_up",
            "cause": "operator",
            "posted_change": 5_000_000,
            "reserved_change": 0,
            "posted_after": 5_000_000,
            "reserved_after": 0,
            "amount": 0,
        }
    ]


def test_the_name_of_who_asks_comes_from_the_connection_alone(runtime: KitRuntime, api: ApiClient) -> None:
    body = {"account": "a", "currency": "EUR", "reason": "x", "who": "somebody"}
    assert api.refused("/v1/accounts", body) == (400, "invalid", "who", "unknown field")
    stranger = ApiClient(runtime, peer=None)
    assert stranger.refused("/v1/accounts", {"account": "a", "currency": "EUR", "reason": "x"})[:3] == (
        403,
        "forbidden",
        "who",
    )
    assert stranger.get("/v1/accounts")["items"] == []


# Keys


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/accounts", {"account": "b", "currency": "EUR"}),
        ("/v1/accounts/a/topup", {"amount": 7}),
        ("/v1/accounts/a/adjust", {"amount": -7}),
        ("/v1/accounts/a/suspend", {}),
        ("/v1/accounts/a/resume", {}),
        ("/v1/subscribers", {"subscriber": "t", "account": "a", "plan": "d10"}),
        ("/v1/subscribers/s/change", {"plan": "two"}),
        ("/v1/subscribers/s/identities/add", {"identity": {"kind": "nai", "value": "u@example.net"}}),
        ("/v1/subscribers/s/identities/remove", {"identity": {"kind": "imsi", "value": "234150000000001"}}),
    ],
)
def test_a_repeat_under_the_same_key_changes_nothing_and_says_so(
    runtime: KitRuntime, api: ApiClient, subscriber: str, path: str, body: dict[str, Any]
) -> None:
    first = api.post(path, **body, key="once")
    before = snapshot(runtime.kit)
    again = api.post(path, **body, key="once")
    assert first["repeated"] is False
    assert again == {**first, "repeated": True}
    assert snapshot(runtime.kit) == before


def test_a_key_used_for_another_change_is_refused(runtime: KitRuntime, api: ApiClient, account: str) -> None:
    before = snapshot(runtime.kit)
    refused = api.refused("/v1/accounts/a/topup", {"amount": 1, "reason": "x", "key": "topup-a"})
    assert refused[:3] == (409, "conflict", "key")
    assert snapshot(runtime.kit) == before


# Subscribers


def test_a_subscriber_is_found_by_its_id_and_by_any_identity(api: ApiClient, subscriber: str) -> None:
    for name in ("s", "e164:447700900123", "447700900123", "imsi:234150000000001"):
        found = api.get(f"/v1/subscribers/{name}")
        assert (found["subscriber"], found["balance"]["currency_code"]) == ("s", "EUR")
    page = api.get("/v1/subscribers", identity="e164:447700900123")
    assert [one["subscriber"] for one in page["items"]] == ["s"]
    assert api.get("/v1/accounts/a")["subscribers"] == ["s"]


def test_a_sim_swap_moves_the_identity_and_leaves_the_running_session(
    runtime: KitRuntime, api: ApiClient, subscriber: str
) -> None:
    kit = runtime.kit
    old, new = Identity("imsi", "234150000000001"), Identity("imsi", "234150000000002")
    assert kit.initial(old, want()).result == "success"
    api.post("/v1/subscribers/s/identities/add", identity={"kind": "imsi", "value": new.value})
    api.post("/v1/subscribers/s/identities/remove", identity={"kind": "imsi", "value": old.value})
    assert kit.update(1, want(used=MIB)).result == "success"
    assert kit.initial(old, want(), session="t").result == "user_unknown"
    assert kit.initial(new, want(), session="u").result == "success"


def test_a_subscriber_is_changed_suspended_and_removed(api: ApiClient, subscriber: str) -> None:
    assert api.post("/v1/subscribers/s/change", plan="two", status="suspended")["status"] == "suspended"
    assert api.get("/v1/subscribers/s")["plan"] == "two"
    api.post("/v1/subscribers/s/remove")
    assert api.refused("/v1/subscribers/s/remove", {"reason": "x"})[:3] == (404, "not_found", "subscriber")
    assert api.get("/v1/subscribers")["items"] == []
    assert [event["operation"] for event in events(api)][-2:] == ["subscriber change", "subscriber remove"]


# Sessions


def test_a_session_is_listed_shown_and_explained(runtime: KitRuntime, api: ApiClient) -> None:
    who = runtime.kit.account("a", 1000)
    name = "gw1.example.net;1;2/x?y#z //"
    runtime.kit.initial(who, want(), session=name)
    assert [one["session"] for one in api.get("/v1/sessions")["items"]] == [name]
    assert [one["session"] for one in api.get("/v1/sessions", account="a")["items"]] == [name]
    assert [one["session"] for one in api.get("/v1/sessions", peer="gw1.example.net")["items"]] == [name]
    assert api.get("/v1/sessions", peer="gw2.example.net")["items"] == []
    runtime.kit.update(1, want(used=MIB + MIB // 2), session=name)
    runtime.kit.terminate(2, report(used=MIB // 2), session=name)
    assert api.get("/v1/session", session=name)["close_cause"] == "termination"
    found = api.get("/v1/session/explain", session=name)
    # S02: 1.5 MiB cost two started steps of 0.10, the next 0.5 MiB nothing.
    assert [event["usage"][0]["debited_micros"] for event in found["events"]] == [0, 20 * CENT, 0]
    assert [event["request"] for event in found["events"]] == ["initial #0", "update #1", "termination #2"]
    assert found["tariffs"]["1/D10"]["text"] == "0.10 EUR per 1 MiB, in steps of 1 MiB"
    assert (found["currency_code"], found["exponent"]) == ("EUR", 2)


def test_an_unknown_session_is_not_found(api: ApiClient) -> None:
    for path in ("/v1/session", "/v1/session/explain"):
        status, answer = api.call("GET", path, session="none")
        assert (status, answer["error"]["kind"], answer["error"]["field"]) == (404, "not_found", "session")


# Pages


def test_lists_come_in_pages_that_join_to_the_whole(api: ApiClient) -> None:
    names = [f"a{n}" for n in range(7)]
    for name in names:
        api.post("/v1/accounts", account=name, currency="EUR")
    found: list[str] = []
    page = api.get("/v1/accounts", limit=3)
    while True:
        assert len(page["items"]) <= 3
        found += [item["account"] for item in page["items"]]
        if page["next"] is None:
            break
        page = api.get("/v1/accounts", limit=3, cursor=page["next"])
    assert sorted(found) == names
    assert len(set(found)) == 7


def test_the_ledger_comes_in_pages(api: ApiClient, account: str) -> None:
    page = api.get("/v1/accounts/a/ledger", limit=1)
    assert [event["operation"] for event in page["items"]] == ["create"]
    rest = api.get("/v1/accounts/a/ledger", limit=10, cursor=page["next"])
    assert ([event["operation"] for event in rest["items"]], rest["next"]) == (["topup"], None)


@pytest.mark.parametrize("query", [{"limit": 0}, {"limit": 1001}, {"limit": "x"}, {"cursor": "x"}])
def test_a_page_that_cannot_be_meant_is_refused(api: ApiClient, query: dict[str, Any]) -> None:
    for path in ("/v1/accounts", "/v1/subscribers", "/v1/sessions"):
        status, answer = api.call("GET", path, **query)
        assert (status, answer["error"]["kind"]) == (400, "invalid"), path
        assert answer["error"]["field"] == next(iter(query))


# Catalogue


def test_a_catalogue_is_checked_without_being_activated(runtime: KitRuntime, api: ApiClient) -> None:
    before = snapshot(runtime.kit)
    status, answer = api.call("POST", "/v1/catalogue/check", {"text": CATALOGUE_PATH.read_text()})
    assert (status, answer["name"]) == (200, "kit")
    status, answer = api.call("POST", "/v1/catalogue/check", {"text": 'name = "x"\nfoo = 1\n', "filename": "c.toml"})
    assert status == 400
    assert [problem["line"] for problem in answer["error"]["problems"]] == [1, 2]
    assert answer["error"]["message"].startswith("c.toml:1: ")
    assert snapshot(runtime.kit) == before


def test_a_catalogue_is_activated_and_shown(api: ApiClient) -> None:
    text = CATALOGUE_PATH.read_text().replace('name = "kit"', 'name = "new"', 1)
    answer = api.post("/v1/catalogue/activate", text=text, filename="new.toml")
    assert (answer["changed"], answer["previous"]) == (True, 1)
    found = api.get("/v1/catalogue")
    assert (found["name"], found["version"]) == ("new", answer["version"])


def test_a_catalogue_with_problems_is_not_activated(runtime: KitRuntime, api: ApiClient) -> None:
    before = snapshot(runtime.kit)
    assert api.refused("/v1/catalogue/activate", {"text": "x = 1", "reason": "x"})[:3] == (400, "invalid", "text")
    assert api.refused("/v1/catalogue/activate", {"text": CATALOGUE_PATH.read_text(), "reason": " "})[:3] == (
        400,
        "invalid",
        "reason",
    )
    assert snapshot(runtime.kit) == before


# The process


def test_the_clock_is_stepped_and_what_becomes_due_is_done_before_the_answer(
    runtime: KitRuntime, api: ApiClient, account: str
) -> None:
    api.post("/v1/accounts/a/topup", amount=7, kind="events", valid_for_s=60)
    assert api.get("/v1/clock") == {"now_us": START_US, "stepped": True}
    status, answer = api.call("POST", "/v1/clock/advance", {"seconds": 61})
    assert (status, answer) == (200, {"now_us": START_US + 61_000_000, "stepped": True, "swept": 1})
    assert [bucket["bucket"] for bucket in api.get("/v1/accounts/a")["buckets"]] == [0]
    assert events(api)[-1]["entries"][0]["verb"] == "expire"


def test_a_clock_that_passes_by_itself_is_not_stepped(runtime: KitRuntime, api: ApiClient) -> None:
    runtime.stepped = False
    assert api.refused("/v1/clock/advance", {"seconds": 1})[:3] == (409, "conflict", "clock")
    assert runtime.now_us() == START_US


@pytest.mark.parametrize("seconds", [0, -1, 1.5, "1", 10**12, None])
def test_a_step_that_cannot_be_meant_is_refused(runtime: KitRuntime, api: ApiClient, seconds: object) -> None:
    assert api.refused("/v1/clock/advance", {"seconds": seconds})[:3] == (400, "invalid", "seconds")
    assert runtime.now_us() == START_US


def test_health_answers_without_the_store(api: ApiClient) -> None:
    assert api.get("/v1/health")["status"] == "ok"


def test_doctor_tells_the_facts_and_what_is_wrong(runtime: KitRuntime, api: ApiClient) -> None:
    runtime.warned.append("odd")
    runtime.wrong.append("broken")
    found = api.get("/v1/doctor")
    assert (found["warnings"], found["problems"]) == (["odd"], ["broken"])
    assert found["store"]["engine"] == "memory"
    assert found["catalogue"]["version"] == 1
    assert found["configuration"]["charging"]["tombstone_s"] == 3600
    assert found["listeners"] == [{"name": "diameter", "address": "127.0.0.1:3868"}]


def test_metrics_count_answers_by_request_and_result(runtime: KitRuntime, api: ApiClient) -> None:
    who = runtime.kit.account("a", 1000)
    runtime.kit.initial(who, want())
    text = api.get("/v1/metrics")
    assert 'ocs_answers_total{request="initial",result="success"} 1.0' in text
    assert "ocs_diameter_peers_open 0.0" in text
    assert "ocs_catalogue_version 1.0" in text


def test_the_openapi_document_names_every_route(api: ApiClient) -> None:
    document = api.get("/schema/openapi.json")
    assert "/v1/accounts/{account}/topup" in document["paths"]
    assert "credit_limit_micros" in document["components"]["schemas"]["NewAccount"]["properties"]


# Bad input changes nothing

BIG = 2**63
BAD = [
    ("/v1/accounts", {"currency": "EUR", "reason": "x"}, 400, "account"),
    ("/v1/accounts", {"account": "b", "reason": "x"}, 400, "currency"),
    ("/v1/accounts", {"account": "b", "currency": "EUR"}, 400, "reason"),
    ("/v1/accounts", {"account": "b", "currency": "EUR", "reason": ""}, 400, "reason"),
    ("/v1/accounts", {"account": "b", "currency": "EUR", "reason": " \t"}, 400, "reason"),
    ("/v1/accounts", {"account": "b", "currency": "EUR", "reason": "a\nb"}, 400, "reason"),
    ("/v1/accounts", {"account": "b", "currency": "EUR", "reason": "x" * (MAX_REASON_CHARACTERS + 1)}, 400, "reason"),
    ("/v1/accounts", {"account": "b", "currency": "EUR", "reason": "x", "key": ""}, 400, "key"),
    ("/v1/accounts", {"account": "b", "currency": "EUR", "reason": "x", "key": "k" * 129}, 400, "key"),
    ("/v1/accounts", {"account": "b", "currency": "EUR", "reason": "x", "key": "a\x1b"}, 400, "key"),
    ("/v1/accounts", {"account": "b", "currency": "XXX", "reason": "x"}, 400, "currency"),
    ("/v1/accounts", {"account": "b", "currency": "EUR", "reason": "x", "credit_limit_micros": -1}, 400, None),
    ("/v1/accounts", {"account": "b", "currency": "EUR", "reason": "x", "credit_limit_micros": BIG}, 400, None),
    ("/v1/accounts", {"account": "b", "currency": "EUR", "reason": "x", "credit_limit_micros": 0.5}, 400, None),
    ("/v1/accounts", {"account": "", "currency": "EUR", "reason": "x"}, 400, "account"),
    ("/v1/accounts", {"account": "b c", "currency": "EUR", "reason": "x"}, 400, "account"),
    ("/v1/accounts", {"account": "b/c", "currency": "EUR", "reason": "x"}, 400, "account"),
    ("/v1/accounts", {"account": "..", "currency": "EUR", "reason": "x"}, 400, "account"),
    ("/v1/accounts", {"account": "{b}", "currency": "EUR", "reason": "x"}, 400, "account"),
    ("/v1/accounts", {"account": "x" * 65, "currency": "EUR", "reason": "x"}, 400, "account"),
    ("/v1/accounts", {"account": "a", "currency": "EUR", "reason": "x"}, 409, "account"),
    ("/v1/accounts", [], 400, None),
    ("/v1/accounts", None, 400, None),
    ("/v1/accounts/none/topup", {"amount": 1, "reason": "x"}, 404, "account"),
    ("/v1/accounts/a/topup", {"amount": 0, "reason": "x"}, 400, "amount"),
    ("/v1/accounts/a/topup", {"amount": -1, "reason": "x"}, 400, "amount"),
    ("/v1/accounts/a/topup", {"amount": "1", "reason": "x"}, 400, "amount"),
    ("/v1/accounts/a/topup", {"amount": BIG, "reason": "x"}, 400, "amount"),
    ("/v1/accounts/a/topup", {"amount": 1, "kind": "bytes", "reason": "x"}, 400, "kind"),
    ("/v1/accounts/a/topup", {"amount": 1, "valid_until_s": START_S, "reason": "x"}, 400, "expires"),
    ("/v1/accounts/a/topup", {"amount": 1, "valid_for_s": 0, "reason": "x"}, 400, "valid_for_s"),
    (
        "/v1/accounts/a/topup",
        {"amount": 1, "valid_for_s": 1, "valid_until_s": START_S + 9, "reason": "x"},
        400,
        "valid_for_s",
    ),
    ("/v1/accounts/a/topup", {"amount": 1, "rating_group": -1, "reason": "x"}, 400, "rating_group"),
    ("/v1/accounts/a/topup", {"amount": 1, "rating_group": 2**32, "reason": "x"}, 400, "rating_group"),
    ("/v1/accounts/a/topup", {"amount": 1, "priority": 2**40, "reason": "x"}, 400, "priority"),
    ("/v1/accounts/a/adjust", {"amount": 0, "reason": "x"}, 400, "amount"),
    ("/v1/accounts/a/adjust", {"amount": -5_000_001, "reason": "x"}, 409, "amount"),
    ("/v1/accounts/a/adjust", {"amount": 1, "bucket": 9, "reason": "x"}, 404, "bucket"),
    ("/v1/accounts/a/adjust", {"amount": 1, "kind": "octets", "reason": "x"}, 400, "amount"),
    ("/v1/accounts/none/suspend", {"reason": "x"}, 404, "account"),
    ("/v1/accounts/a/close", {"reason": "x"}, 409, "account"),
    ("/v1/subscribers", {"subscriber": "t", "account": "a", "plan": "none", "reason": "x"}, 400, "plan"),
    ("/v1/subscribers", {"subscriber": "t", "account": "none", "plan": "d10", "reason": "x"}, 404, "account"),
    ("/v1/subscribers", {"subscriber": "t u", "account": "a", "plan": "d10", "reason": "x"}, 400, "subscriber"),
    ("/v1/subscribers", {"subscriber": "t/u", "account": "a", "plan": "d10", "reason": "x"}, 400, "subscriber"),
    ("/v1/subscribers/none/change", {"plan": "d10", "reason": "x"}, 404, "subscriber"),
    ("/v1/subscribers/s/change", {"reason": "x"}, 400, "plan"),
    ("/v1/subscribers/s/change", {"plan": "none", "reason": "x"}, 400, "plan"),
    ("/v1/subscribers/s/change", {"status": "closed", "reason": "x"}, 400, "status"),
    ("/v1/subscribers/none/remove", {"reason": "x"}, 404, "subscriber"),
    ("/v1/subscribers/s/identities/add", {"reason": "x"}, 400, "identity"),
    (
        "/v1/subscribers/s/identities/remove",
        {"identity": {"kind": "e164", "value": "1"}, "reason": "x"},
        404,
        "identity",
    ),
]
BAD += [
    ("/v1/subscribers/s/identities/add", {"identity": {"kind": kind, "value": value}, "reason": "x"}, 400, "identity")
    for kind, value in [
        ("phone", "1"),
        ("e164", "abc"),
        ("e164", "1" * 21),
        ("imsi", "+1"),
        ("nai", ""),
        ("nai", "a b"),
    ]
]


@pytest.mark.parametrize(("path", "body", "status", "field"), BAD)
def test_bad_input_is_told_by_its_field_and_changes_nothing(
    runtime: KitRuntime, api: ApiClient, subscriber: str, path: str, body: Any, status: int, field: str | None
) -> None:
    before = snapshot(runtime.kit)
    refused = api.refused(path, body)
    assert refused[0] == status, refused
    if field is not None:
        assert refused[2] == field, refused
    assert refused[3]
    assert "\n" not in refused[3]
    assert snapshot(runtime.kit) == before


def test_an_identity_of_another_subscriber_is_refused(api: ApiClient, subscriber: str) -> None:
    body = {"subscriber": "t", "account": "a", "plan": "d10", "reason": "x"}
    taken = [{"kind": "e164", "value": "447700900123"}]
    assert api.refused("/v1/subscribers", {**body, "identities": taken})[:3] == (409, "exists", "identity")
    twice = [{"kind": "nai", "value": "a@X.net"}, {"kind": "nai", "value": "a@x.net"}]
    assert api.refused("/v1/subscribers", {**body, "identities": twice})[:3] == (400, "invalid", "identities")
    assert [one["subscriber"] for one in api.get("/v1/subscribers")["items"]] == ["s"]


def test_a_repeated_removal_leaves_an_identity_that_was_added_again(api: ApiClient, subscriber: str) -> None:
    identity = {"kind": "imsi", "value": "234150000000001"}
    api.post("/v1/subscribers/s/identities/remove", identity=identity, key="k1")
    api.post("/v1/subscribers/s/identities/add", identity=identity, key="k2")
    assert api.post("/v1/subscribers/s/identities/remove", identity=identity, key="k1")["repeated"] is True
    assert api.get("/v1/subscribers/imsi:234150000000001")["subscriber"] == "s"


@pytest.mark.parametrize(
    ("more", "field"),
    [
        (
            {"identities": [{"kind": "nai", "value": "u@x.net"}, {"kind": "imsi", "value": "234150000000001"}]},
            "identity",
        ),
        ({"account": "closed", "identities": [{"kind": "nai", "value": "u@x.net"}]}, "account"),
        ({"subscriber": "s", "identities": [{"kind": "nai", "value": "u@x.net"}]}, "subscriber"),
    ],
)
def test_a_subscriber_that_is_refused_leaves_no_claims(
    runtime: KitRuntime, api: ApiClient, subscriber: str, more: dict[str, Any], field: str
) -> None:
    api.post("/v1/accounts", account="closed", currency="EUR")
    api.post("/v1/accounts/closed/close")
    before = snapshot(runtime.kit)
    body = {"subscriber": "t", "account": "a", "plan": "d10", "reason": "x", **more}
    assert api.refused("/v1/subscribers", body)[2] == field
    assert snapshot(runtime.kit) == before
    api.post(
        "/v1/subscribers", subscriber="u", account="a", plan="d10", identities=[{"kind": "nai", "value": "u@x.net"}]
    )


def test_a_bucket_never_grows_beyond_what_can_be_counted(runtime: KitRuntime, api: ApiClient, account: str) -> None:
    api.post("/v1/accounts/a/topup", amount=2**62 - 5_000_000)
    before = snapshot(runtime.kit)
    assert api.refused("/v1/accounts/a/topup", {"amount": 1, "reason": "x"})[:3] == (409, "conflict", "amount")
    assert api.refused("/v1/accounts/a/adjust", {"amount": 1, "reason": "x"})[:3] == (409, "conflict", "amount")
    assert snapshot(runtime.kit) == before


def test_unknown_routes_and_methods_have_the_same_shape_of_error(api: ApiClient) -> None:
    assert api.refused("/v1/nothing", {})[:2] == (404, "not_found")
    assert api.refused("/v1/accounts", None, "DELETE")[:2] == (405, "invalid")
    status, answer = api.call("GET", "/v1/session")
    assert (status, set(answer["error"])) == (400, {"kind", "field", "message"})


# A store that does not answer


@pytest.fixture
def failing(runtime: KitRuntime, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store whose reads fail."""

    def read(partition: int, keys: object, done: Any) -> None:
        done(StoreFailure("disk is gone", False))

    monkeypatch.setattr(runtime.kit.store, "read", read)


def test_a_store_that_fails_is_503_and_named_in_doctor(api: ApiClient, failing: None) -> None:
    status, kind, _, message = api.refused("/v1/accounts/a/suspend", {"reason": "x"})
    assert (status, kind) == (503, "unavailable")
    assert "disk is gone" in message
    assert api.get("/v1/doctor")["problems"] == ["the store does not answer: disk is gone"]
