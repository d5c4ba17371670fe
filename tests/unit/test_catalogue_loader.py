"""What the loader makes of a catalogue's text, and what it says of a wrong one.

Each wrong text changes one thing of `GOOD`; the expected messages are written in full, since people read them.
"""

from __future__ import annotations

import pathlib

import pytest

from tariffs.describe import describe
from tariffs.loader import MAX_CHARACTERS, load
from tariffs.model import Action, FinalUnitAction, RedirectType, Rounding, Unit
from tariffs.problems import MAX_PROBLEMS, CatalogueError, Problem

DEMO = pathlib.Path(__file__).parents[2] / "ocs" / "demo" / "catalogue.toml"
MIB = 1_048_576

GOOD = """\
name = "test"
currency = "EUR"

[[final_unit]]
name = "page"
action = "redirect"
address_type = "url"
address = "http://topup.example.net/"

[[tariff]]
name = "D10"
unit = "octets"
price = "0.10"
per = "1 MiB"
step = "1 MiB"
default_quota = "10 MiB"
min_grant = "1 MiB"
threshold = "1 MiB"
final_unit = "page"

[[plan]]
name = "standard"

[[plan.rule]]
service_context = "32251@3gpp.org"
rating_group = 100
tariff = "D10"

[[plan.rule]]
service_context = "32251@3gpp.org"
rating_group = [200, 201]
action = "free"
"""


def problems(text: str) -> list[str]:
    """The messages about a text, without the file's name."""
    with pytest.raises(CatalogueError) as caught:
        load(text, "c.toml")
    assert str(caught.value) == "\n".join(map(str, caught.value.problems))
    lines = str(caught.value).split("\n")
    assert len(lines) == len(caught.value.problems)
    assert all(line.startswith("c.toml:") for line in lines)
    return [line.removeprefix("c.toml:") for line in lines]


def changed(old: str, new: str, text: str = GOOD) -> str:
    assert text.count(old) >= 1
    return text.replace(old, new, 1)


def test_the_good_text_is_read_whole() -> None:
    catalogue = load(GOOD, "c.toml", version=7)
    assert (catalogue.version, catalogue.name, catalogue.filename, catalogue.warnings) == (7, "test", "c.toml", ())
    tariff = catalogue.tariff(0)
    assert (tariff.name, tariff.unit, tariff.price_micros) == ("D10", Unit.OCTETS, 100_000)
    assert (tariff.per, tariff.step, tariff.rounding) == (MIB, MIB, Rounding.UP)
    assert (tariff.default_quota, tariff.min_grant, tariff.max_grant) == (10 * MIB, MIB, 0)
    assert (tariff.threshold, tariff.validity_s, tariff.currency, tariff.line) == (MIB, 3600, "EUR", 10)
    policy = catalogue.final_unit_policy(tariff)
    assert (policy.action, policy.redirect_type) == (FinalUnitAction.REDIRECT, RedirectType.URL)
    assert (policy.redirect_address, policy.validity_s, policy.repeat) == ("http://topup.example.net/", 300, False)
    assert set(catalogue.final_units) == {"terminate", "page"}
    plan = catalogue.plans["standard"]
    assert (plan.currency.code, plan.currency.numeric, plan.currency.exponent) == ("EUR", 978, 2)
    first, second = plan.rules
    assert (first.action, first.tariff, first.rating_groups, first.line) == (
        Action.CHARGE,
        tariff,
        frozenset({100}),
        24,
    )
    assert (second.action, second.tariff, second.rating_groups) == (Action.FREE, None, frozenset({200, 201}))
    assert catalogue.plan("standard") is plan
    assert catalogue.plan("other") is None


def test_defaults_of_a_tariff() -> None:
    text = GOOD + '[[tariff]]\nname = "sms"\nunit = "events"\nprice = "0.09"\n'
    tariff = load(text, "c.toml").tariff(1)
    assert (tariff.per, tariff.step, tariff.default_quota, tariff.min_grant) == (1, 1, 1, 1)
    assert (tariff.threshold, tariff.validity_s, tariff.final_unit) == (0, 3600, "terminate")


def test_the_smallest_grant_is_a_step_or_else_the_quota() -> None:
    assert load(changed('min_grant = "1 MiB"\n', ""), "c.toml").tariff(0).min_grant == MIB
    text = changed('min_grant = "1 MiB"\nthreshold = "1 MiB"\n', "").replace('"10 MiB"', '"500 kB"')
    assert load(text, "c.toml").tariff(0).min_grant == 500_000


def test_the_demo_catalogue_has_no_problem_and_no_warning() -> None:
    catalogue = load(DEMO.read_text(encoding="utf-8"), "catalogue.toml")
    assert catalogue.warnings == ()
    standard = catalogue.plans["standard"]
    d10 = standard.match("32251@3gpp.org", 100)
    assert d10 is not None
    assert d10.tariff is not None
    assert (d10.tariff.price_micros, d10.tariff.default_quota, d10.tariff.threshold) == (100_000, 10_485_760, 1_048_576)
    actions = [standard.match("32251@3gpp.org", group) for group in (200, 300, 400)]
    assert [None if rule is None else rule.action for rule in actions] == [Action.FREE, Action.BAR, None]
    prices = {tariff.name: (tariff.price_micros, tariff.per, tariff.step) for tariff in catalogue.tariffs}
    assert prices["voice"] == (60_000, 60, 60)
    assert prices["sms"] == (90_000, 1, 1)
    policies = {name: catalogue.final_units[name] for name in ("topup-page", "topup-only")}
    assert policies["topup-page"].redirect_address == "http://topup.example.net/"
    assert policies["topup-only"].filter_ids == ("topup-only",)


def test_description_has_counts_and_readable_prices() -> None:
    described = describe(load(GOOD, "c.toml"))
    assert described["counts"] == {"plans": 1, "rules": 2, "tariffs": 1, "final_units": 2, "warnings": 0}
    tariffs = described["tariffs"]
    assert isinstance(tariffs, list)
    assert tariffs[0]["text"] == "0.10 EUR per 1 MiB, in steps of 1 MiB"


NAME = "1 to 64 letters, digits, `.`, `_` or `-`, the first a letter or digit"
CURRENCY = 'a code of ISO 4217 such as "EUR"'
CONTEXT = "a service context such as `32251@3gpp.org`"
OCTETS = 'a whole number of octets such as 1048576, "100 kB" or "1 MiB"'
IDENTIFIER = "an integer from 0 to 4294967295, or a list of such"

WRONG: dict[str, tuple[str, str, list[str]]] = {
    # name: (old, new, messages)
    "unknown key": (
        'price = "0.10"',
        'prise = "0.10"',
        [
            '10: `price` is missing, expected a price in quotes such as "0.10"',
            "13: unknown key `prise`, did you mean `price`?",
        ],
    ),
    "unknown key far from any": (
        "rating_group = 100",
        "rating_group = 100\nx = 1",
        [
            (
                "27: unknown key `x`, expected one of `service_context`, `rating_group`, `service_identifier`, `action`, "
                "`tariff`"
            )
        ],
    ),
    "name missing": ('name = "test"\n', "", [f"1: `name` is missing, expected {NAME}"]),
    "name with blanks": ('"D10"', '"D 10"', [f"11: `name` is `D 10`, expected {NAME}", "27: unknown tariff `D10`, "]),
    "unknown currency": ('"EUR"', '"EURO"', [f"2: unknown currency `EURO`, expected {CURRENCY}"]),
    "no currency anywhere": (
        'currency = "EUR"\n',
        "",
        [
            f"9: `currency` is missing, expected {CURRENCY}, here or at the top of the catalogue",
            f"20: `currency` is missing, expected {CURRENCY}, here or at the top of the catalogue",
        ],
    ),
    "two currencies": (
        'name = "standard"',
        'name = "standard"\ncurrency = "USD"',
        ["28: tariff `D10` is priced in EUR, the plan is in USD, expected one currency"],
    ),
    "unit missing": (
        'unit = "octets"\n',
        "",
        ["10: `unit` is missing, expected `octets`, `seconds` or `events`"],
    ),
    "unit mistyped": ('"octets"', '"octet"', ["12: `unit` is `octet`, did you mean `octets`?"]),
    "price without quotes": (
        '"0.10"',
        "0.10",
        [
            (
                "13: price `0.10` is not in quotes, expected a decimal number in quotes, in the currency's major unit, "
                'such as "0.10"'
            )
        ],
    ),
    "price too fine": ('"0.10"', '"0.1000001"', ["13: price `0.1000001` has 7 decimals, expected at most 6"]),
    "price negative": ('"0.10"', '"-1"', ['13: price `-1` is negative, expected "0" or more']),
    "zero step": ('step = "1 MiB"', "step = 0", ["15: `step` is 0, expected at least 1"]),
    "zero per": ('per = "1 MiB"', 'per = "0 MiB"', ["14: `per` is 0, expected at least 1"]),
    "negative step": ('step = "1 MiB"', "step = -1", [f"15: `step`: `-1` is negative, expected {OCTETS}"]),
    "per missing": ('per = "1 MiB"\n', "", [f"10: `per` is missing, expected {OCTETS}"]),
    "quota missing": (
        'default_quota = "10 MiB"\n',
        "",
        [f"10: `default_quota` is missing, expected {OCTETS}"],
    ),
    "smallest grant above the quota": (
        'min_grant = "1 MiB"',
        'min_grant = "11 MiB"',
        ["17: `min_grant` 11 MiB is above `default_quota` 10 MiB, expected at most 10 MiB"],
    ),
    "largest grant below the quota": (
        'min_grant = "1 MiB"',
        'max_grant = "5 MiB"',
        ["17: `max_grant` 5 MiB is below `default_quota` 10 MiB, expected at least 10 MiB"],
    ),
    "threshold not below the quota": (
        'threshold = "1 MiB"',
        'threshold = "10 MiB"',
        ["18: `threshold` 10 MiB is not below `default_quota` 10 MiB, expected less than 10 MiB"],
    ),
    "threshold wider than the wire": (
        'default_quota = "10 MiB"\nmin_grant = "1 MiB"\nthreshold = "1 MiB"',
        'default_quota = "10 GiB"\nthreshold = "4 GiB"',
        ["17: `threshold` is 4294967296, expected at most 4294967295"],
    ),
    "no validity": (
        'threshold = "1 MiB"',
        "validity = 0",
        ["18: `validity` is 0, expected at least 1"],
    ),
    "validity of octets": (
        'threshold = "1 MiB"',
        'validity = "1 MiB"',
        ["18: `validity`: unknown unit `MiB`, expected one of `s`, `min`, `h`, `d`"],
    ),
    "unknown rounding": (
        'threshold = "1 MiB"',
        'rounding = "down"',
        ["18: `rounding` is `down`, expected one of `up`"],
    ),
    "price that could overflow": (
        '"0.10"',
        '"600000"',
        # 16 TiB are 16,777,216 MiB: 600,000 each would be 10,066,329,600,000, above the widest cost.
        [
            (
                "13: the price of 16 TiB would pass 9223372036854.775807, expected a lower `price`, a larger `per` or a "
                "smaller `step`"
            )
        ],
    ),
    "unknown final unit": (
        'final_unit = "page"',
        'final_unit = "pages"',
        ["19: unknown final_unit `pages`, did you mean `page`?"],
    ),
    "final unit of a built-in name": (
        'name = "page"',
        'name = "terminate"',
        [
            "5: final_unit `terminate` is built in, expected another name",
            "19: unknown final_unit `page`, expected the name of a `[[final_unit]]`",
        ],
    ),
    "redirect without address": (
        'address = "http://topup.example.net/"\n',
        "",
        ["4: `address` is missing, expected an address such as `http://topup.example.net/`"],
    ),
    "redirect without type": (
        'address_type = "url"\n',
        "",
        ["4: `address_type` is missing, expected `ipv4`, `ipv6`, `url` or `sip`"],
    ),
    "redirect to another type": (
        '"url"',
        '"ipv4"',
        ["8: `address` is `http://topup.example.net/`, expected an IPv4 address such as `192.0.2.1`"],
    ),
    "restrict with an address": (
        '"redirect"',
        '"restrict"',
        [
            "7: `address_type` has no effect with action `restrict`, expected no such key",
            "8: `address` has no effect with action `restrict`, expected no such key",
        ],
    ),
    "no final action": (
        'action = "redirect"\n',
        "",
        ["4: `action` is missing, expected `terminate`, `redirect` or `restrict`"],
    ),
    "filter rule": (
        'address = "http',
        'filter_rules = ["permit all"]\naddress = "http',
        [
            (
                "8: `filter_rules` holds `permit all`, expected an IPFilterRule such as `permit out ip from 192.0.2.1 to "
                "assigned`"
            )
        ],
    ),
    "filter ids of another type": (
        'address = "http',
        'filter_ids = ["ok",\n1]\naddress = "http',
        ["9: `filter_ids` holds `1`, expected the name of a filter that the gateway knows"],
    ),
    "filter ids not in a list": (
        'address = "http',
        'filter_ids = "ok"\naddress = "http',
        [
            "8: `filter_ids` is `ok`, expected a list of texts, each the name of a filter that the gateway knows",
        ],
    ),
    "repeat": (
        'address = "http',
        'repeat = "yes"\naddress = "http',
        ["8: `repeat` is `yes`, expected `true` or `false`"],
    ),
    "unknown tariff": ('tariff = "D10"', 'tariff = "D11"', ["27: unknown tariff `D11`, did you mean `D10`?"]),
    "neither tariff nor action": (
        'tariff = "D10"\n',
        "",
        ["24: `tariff` is missing, expected it, or `action` with `free`, `bar` or `deny`"],
    ),
    "charge without tariff": (
        'action = "free"',
        'action = "charge"',
        ["29: `tariff` is missing, expected the name of a `[[tariff]]`"],
    ),
    "free with a tariff": (
        'action = "free"',
        'action = "free"\ntariff = "D10"',
        ["33: `tariff` has no effect with action `free`, expected no such key"],
    ),
    "unknown action": ('action = "free"', 'action = "fre"', ["32: `action` is `fre`, did you mean `free`?"]),
    "no context": (
        'service_context = "32251@3gpp.org"\n',
        "",
        [f"24: `service_context` is missing, expected {CONTEXT}"],
    ),
    "context with a release": (
        '"32251@3gpp.org"',
        '"8.32251@3gpp.org"',
        ["25: `service_context` is `8.32251@3gpp.org`, expected the part that all releases share, `32251@3gpp.org`"],
    ),
    "context in capitals": (
        '"32251@3gpp.org"',
        '"32251@3GPP.org"',
        ["25: `service_context` is `32251@3GPP.org`, expected the part that all releases share, `32251@3gpp.org`"],
    ),
    "context with a blank": (
        '"32251@3gpp.org"',
        '"32251 @3gpp.org"',
        [f"25: `service_context` is `32251 @3gpp.org`, expected {CONTEXT}"],
    ),
    "rating group out of range": (
        "= 100",
        "= 4294967296",
        [f"26: `rating_group` is `4294967296`, expected {IDENTIFIER}"],
    ),
    "rating group in quotes": ("= 100", '= "100"', [f"26: `rating_group` is `100`, expected {IDENTIFIER}"]),
    "rating group twice": (
        "[200, 201]",
        "[200,\n200]",
        ["32: `rating_group` lists 200 twice, expected each number once"],
    ),
    "no rating group": ("[200, 201]", "[]", ["31: `rating_group` lists 0 numbers, expected 1 to 1000"]),
    "unreachable rule": (
        "[200, 201]",
        "100",
        ["29: the rule can never match, line 24 already takes all that it names, expected the narrower rule first"],
    ),
    "unreachable behind any group": (
        "rating_group = 100\n",
        "",
        ["28: the rule can never match, line 24 already takes all that it names, expected the narrower rule first"],
    ),
    "plan twice": (
        "[[plan]]",
        '[[plan]]\nname = "standard"\n[[plan.rule]]\nservice_context = "a@b"\naction = "deny"\n[[plan]]',
        ["27: plan `standard` is defined twice, first in line 21, expected names that differ"],
    ),
    "plan without rules": (
        "[[plan]]",
        '[[plan]]\nname = "empty"\n\n[[plan]]',
        ["21: the plan has no rules, expected at least one table `[[plan.rule]]`"],
    ),
    "tables that are not in an array": (
        "[[final_unit]]",
        "[final_unit]",
        [
            "4: `final_unit` is `{…}`, expected tables that each begin with `[[final_unit]]`",
            "19: unknown final_unit `page`, expected the name of a `[[final_unit]]`",
        ],
    ),
    "an array of something else": (
        'currency = "EUR"',
        'currency = "EUR"\nplan = 1',
        ["22: not TOML: Cannot overwrite a value, expected valid TOML"],
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_said_with_its_line(name: str) -> None:
    old, new, messages = WRONG[name]
    found = problems(changed(old, new))
    assert len(found) == len(messages)
    # A message that ends in a comma and a blank is the beginning of a longer one.
    for line, message in zip(found, messages, strict=True):
        assert line == message or (message.endswith(", ") and line.startswith(message))


def test_all_problems_are_found_in_order_of_lines() -> None:
    text = GOOD
    for old, new in (('"EUR"', '"XYZ"'), ('"url"', '"urn"'), ('step = "1 MiB"', "step = 0"), ("= 100", '= "x"')):
        text = changed(old, new, text)
    assert [line.partition(":")[0] for line in problems(text)] == ["2", "7", "15", "26"]


def test_no_plan_is_a_problem() -> None:
    assert problems('name = "a"\n') == ["1: `plan` is missing, expected at least one table `[[plan]]`"]


def test_an_empty_text_is_a_problem() -> None:
    assert len(problems("")) == 2


def test_values_that_are_not_tables_are_refused() -> None:
    text = 'name = "a"\nplan = [1]\ntariff = "x"\n'
    assert problems(text) == [
        "2: `plan` holds `1`, expected a table that begins with `[[plan]]`",
        "3: `tariff` is `x`, expected tables that each begin with `[[tariff]]`",
    ]


def test_rules_of_another_shape_are_refused() -> None:
    text = 'name = "a"\ncurrency = "EUR"\n[[plan]]\nname = "p"\nrule = 5\n'
    assert problems(text) == ["5: `rule` is `5`, expected tables that each begin with `[[plan.rule]]`"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a = 1\nb =\n", "2: not TOML: Invalid value, expected valid TOML"),
        ("a = 1\na = 2\n", "2: not TOML: Cannot overwrite a value, expected valid TOML"),
        ('a = 1\nb = """\n', "2: not TOML: Unterminated string at the end, expected valid TOML"),
        ("a = " + "[" * 100_000, "1: values are nested too deeply, expected at most five levels"),
        ("\n" + "a." * 32 + "a = 1", "2: a key of more than 32 parts, expected a key without dots"),
        ("\na = " + "9" * 5000, "2: an integer of thousands of digits, expected an integer of 64 bits"),
        ('\nx = "\ud800"', "2: a character that UTF-8 cannot hold, expected UTF-8 text"),
        ("#" * (MAX_CHARACTERS + 1), f"1: the text has {MAX_CHARACTERS + 1} characters, expected at most "),
    ],
)
def test_what_is_no_toml_is_said_with_its_line(text: str, message: str) -> None:
    (found,) = problems(text)
    assert found.startswith(message)


def test_text_of_a_windows_editor_is_read() -> None:
    assert load("\ufeff" + GOOD.replace("\n", "\r\n"), "c.toml").name == "test"
    assert problems(changed('"D10"', '"D 10"').replace("\n", "\r\n"))[0].startswith("11: ")


def test_the_list_of_problems_is_bounded() -> None:
    found = problems("\n".join(f"x{number} = 1" for number in range(2 * MAX_PROBLEMS)))
    assert len(found) == MAX_PROBLEMS + 1
    assert found[-1].endswith("there are more problems, which are not shown")


def test_messages_stay_on_one_line_and_short() -> None:
    long = "x" * 1000
    found = problems(changed('"octets"', f'"{long}"')) + problems(changed('"octets"', '"a\\nb\\u001b\\u202e"'))
    assert found == [
        f"12: `unit` is `{'x' * 60}…`, expected one of `octets`, `seconds`, `events`",
        "12: `unit` is `a\\nb\\x1b\\u202e`, expected one of `octets`, `seconds`, `events`",
    ]


def test_names_in_inline_tables_are_compared_too() -> None:
    text = 'name = "a"\ncurrency = "EUR"\nplan = [{name = "p", rule = [RULE]}, {name = "p", rule = [RULE]}]\n'
    text = text.replace("RULE", '{service_context = "a@b", action = "free"}')
    assert problems(text) == ["3: plan `p` is defined twice, first in line 3, expected names that differ"]


def test_a_rule_may_not_name_too_much() -> None:
    numbers = list(range(200))
    text = changed("rating_group = 100", f"rating_group = {numbers}\nservice_identifier = {numbers}")
    what = "the rule has 40000 combinations of `rating_group` and `service_identifier`"
    assert problems(text) == [f"26: {what}, expected at most 10000"]


def test_a_catalogue_may_not_name_too_much() -> None:
    rule = '[[plan.rule]]\nservice_context = "a{0}@b"\nrating_group = {1}\nservice_identifier = {1}\naction = "free"\n'
    text = GOOD + "".join(rule.format(place, list(range(100))) for place in range(21))
    # Three of GOOD and 19 times 10,000 are below the limit; the twentieth of these rules begins in line 33 + 19 * 5.
    what = "the rules up to here name 200003 combinations of rating group and service identifier"
    assert problems(text) == [f"128: {what}, expected at most 200000"]


IDENTIFIED = """\
[[plan.rule]]
service_context = "32251@3gpp.org"
service_identifier = {}
action = "deny"
"""


def test_a_rule_of_several_identifiers_is_reachable_behind_rules_of_one() -> None:
    # Usage with both identifiers in one quota meets the third rule alone.
    text = GOOD + IDENTIFIED.format(1) + IDENTIFIED.format(2) + IDENTIFIED.format("[1, 2]")
    (warning,) = load(text, "c.toml").warnings
    assert str(warning) == "c.toml:41: service identifier 1 is already taken by the rule in line 33"
    hidden = GOOD + IDENTIFIED.format("[1, 2, 3]") + IDENTIFIED.format("[1, 2]")
    expected = "the rule can never match, line 33 already takes all that it names, expected the narrower rule first"
    assert problems(hidden) == [f"37: {expected}"]


def test_a_pair_that_is_taken_is_named_whole() -> None:
    rule = '[[plan.rule]]\nservice_context = "a@b"\nrating_group = {}\nservice_identifier = {}\naction = "bar"\n'
    (warning,) = load(GOOD + rule.format(5, 6) + rule.format("[4, 5]", "6"), "c.toml").warnings
    what = "rating group 5 with service identifier 6 is already taken by the rule in line 33"
    assert str(warning) == f"c.toml:38: {what}"


@pytest.mark.parametrize(
    ("old", "new", "warning"),
    [
        ("[200, 201]", "[100, 200]", "29: rating group 100 is already taken by the rule in line 24"),
        ('tariff = "D10"', 'action = "free"', "11: no plan uses tariff `D10`"),
        ('final_unit = "page"\n', "", "5: no tariff uses final_unit `page`"),
        ('"32251@3gpp.org"', '"32251"', f"25: `service_context` `32251` names no domain, expected {CONTEXT}"),
        (
            '"32251@3gpp.org"',
            '"32274@3gpp.org"',
            "27: tariff `D10` counts octets, expected events in 32274@3gpp.org",
        ),
    ],
)
def test_what_only_looks_wrong_is_a_warning(old: str, new: str, warning: str) -> None:
    assert [str(found) for found in load(changed(old, new), "c.toml").warnings] == [f"c.toml:{warning}"]


def test_events_with_a_final_action_are_a_warning() -> None:
    text = changed('unit = "octets"', 'unit = "events"').replace('"1 MiB"', "1").replace('"10 MiB"', "10")
    warnings = [str(found) for found in load(text, "c.toml").warnings]
    assert "c.toml:19: events have no final units, the policy is never used, expected no `final_unit`" in warnings


@pytest.mark.parametrize(
    ("kind", "address", "good"),
    [
        ("ipv4", "192.0.2.1", True),
        ("ipv4", "192.0.2.256", False),
        ("ipv6", "2001:db8::1", True),
        ("ipv6", "fe80::1%eth0", False),
        ("url", "https://topup.example.net:8443/a?b=c", True),
        ("url", "ftp://topup.example.net/", False),
        ("url", "http://", False),
        ("url", "http://a b/", False),
        ("url", "http://[::1/", False),
        ("url", "http://a:99999/", False),
        ("url", "topup.example.net", False),
        ("sip", "sip:topup@example.net", True),
        ("sip", "sips:example.net", True),
        ("sip", "tel:+4420", False),
        ("sip", "sip:", False),
    ],
)
def test_redirect_addresses_are_checked(kind: str, address: str, good: bool) -> None:
    text = changed('"http://topup.example.net/"', f'"{address}"').replace('"url"', f'"{kind}"')
    if good:
        policy = load(text, "c.toml").final_units["page"]
        assert (policy.redirect_type, policy.redirect_address) == (RedirectType[kind.upper()], address)
    else:
        (found,) = problems(text)
        assert found.startswith(f"8: `address` is `{address}`, expected a")


def test_cc_108_restrict_takes_rules_ids_both_or_none() -> None:
    # CC-108: Restriction-Filter-Rule(s) or Filter-Id(s) should be present; configurable: rules, ids, both or none.
    rule = "permit out ip from 192.0.2.0/24 to assigned"
    restrict = changed('address_type = "url"\naddress = "http://topup.example.net/"\n', "KEYS")
    restrict = restrict.replace('"redirect"', '"restrict"')
    for rules, ids in (((rule,), ()), ((), ("f",)), ((rule,), ("f", "g")), ((), ())):
        keys = f"filter_rules = {list(rules)}\nfilter_ids = {list(ids)}\nrepeat = true\nvalidity = '10 min'\n"
        policy = load(restrict.replace("KEYS", keys), "c.toml").final_units["page"]
        assert (policy.action, policy.filter_rules, policy.filter_ids) == (FinalUnitAction.RESTRICT, rules, ids)
        assert (policy.repeat, policy.validity_s, policy.redirect_type) == (True, 600, None)


def test_a_problem_reads_as_file_line_what_expected() -> None:
    assert str(Problem("f.toml", 3, "it is wrong", "it right")) == "f.toml:3: it is wrong, expected it right"
    assert str(Problem("f.toml", 3, "it is wrong")) == "f.toml:3: it is wrong"
