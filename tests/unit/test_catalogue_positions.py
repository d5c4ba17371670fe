"""The line of each value of a TOML text. In these texts every integer is the number of the line that it stands on."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator

import pytest

from tariffs.positions import MAX_DEPTH, Path, Positions


def leaves(value: object, path: Path = ()) -> Iterator[tuple[Path, object]]:
    """All values that hold no others, with their paths."""
    if isinstance(value, dict):
        for key, member in value.items():
            yield from leaves(member, (*path, key))
    elif isinstance(value, list):
        for place, member in enumerate(value):
            yield from leaves(member, (*path, place))
    else:
        yield path, value


TEXTS = {
    "pairs and tables": """\
a = 1
  b=2 # c = 9
[t]

c = 5
[ t . u ]
d = 7
""",
    "arrays of tables": """\
[[plan]]
a = 2
[[plan.rule]]
a = 4
[[plan.rule]]
a = 6
[plan.other]
a = 8
[[plan]]
[[plan.rule]]
a = 11
""",
    "dotted and quoted keys": """\
a.b.c = 1
"quoted key" = 2
'literal.key'.x = 3
"\\u0061b\\"c" = 4
a . d = 5
["x.y".z]
"" = 7
""",
    "strings that look like something else": '''\
a = "# [not] = 9"
b = """
[[plan]]
x = 9 \\""" ""
"""
c = 6
d = \'\'\'
e = 9 \\\'\'\'
f = 9
g = """"two quotes""""" # h = 9
i = \'\'\'\'two quotes\'\'\'\'\'
j = 12
k = "\\\\"
l = 14
m = """\\
  """
n = 17
o = \'C:\\\'
p = 19
q = """"""
r = 21
''',
    "arrays and inline tables": """\
a = [1, 1,
  2, # 9, ]
  [3, {b = 3, c.d = 3}],

  5,
]
e = {f = 7, "g" = [7, 7,
8], h = {}}
[t]
i = []
j = 11
k = [ "]", "}" , 12]
l = { m = "}", n = 13 }
""",
    "other values": """\
a = 1979-05-27 07:32:00Z
b = 2
c = -1.5e3
d = 4
e = true
f = 6
g = [1979-05-27, 07:32:00, inf, 7]
h = 0x8""",
}


@pytest.mark.parametrize("name", TEXTS)
def test_every_integer_is_found_on_its_line(name: str) -> None:
    text = TEXTS[name]
    positions = Positions(text)
    found = {path: positions.lines.get(path) for path, value in leaves(tomllib.loads(text)) if type(value) is int}
    expected = {path: value for path, value in leaves(tomllib.loads(text)) if type(value) is int and value > 0}
    assert found == expected


@pytest.mark.parametrize("name", TEXTS)
def test_every_leaf_has_a_line_of_its_own(name: str) -> None:
    positions = Positions(TEXTS[name])
    assert [path for path, _ in leaves(tomllib.loads(TEXTS[name])) if path not in positions.lines] == []


def test_tables_are_found_at_their_headers() -> None:
    positions = Positions(TEXTS["arrays of tables"])
    assert positions.line(("plan", 0)) == 1
    assert positions.line(("plan", 0, "rule", 1)) == 5
    assert positions.line(("plan", 0, "other")) == 7
    assert positions.line(("plan", 1)) == 9
    assert positions.line(("plan", 1, "rule", 0)) == 10


def test_a_header_after_its_sub_tables_is_where_the_table_is() -> None:
    assert Positions("[a.b]\nx = 2\n[a]\ny = 4\n").line(("a",)) == 3


def test_what_has_no_line_gets_that_of_what_holds_it() -> None:
    positions = Positions("\n[t]\na = 3\n")
    assert positions.line(("t", "missing", 4)) == 2
    assert positions.line(("missing",)) == 1


def test_depth_is_bounded() -> None:
    key = ".".join("a" * (MAX_DEPTH + 5))
    positions = Positions(f"\n{key} = 2\n")
    assert max(len(path) for path in positions.lines) == MAX_DEPTH
    assert positions.line(("a",) * (MAX_DEPTH + 5)) == 2


@pytest.mark.parametrize(
    "text", ["=", "[", "a", "a =", "a = [", "a = [1 2]", "a = {", 'a = "', "a = [1,,]", "[[a]\n", "]"]
)
def test_a_text_that_is_not_toml_ends_the_scan(text: str) -> None:
    assert Positions(text).line(("a",)) == 1
