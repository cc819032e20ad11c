"""The locator: every key, value and item of a TOML text is where the text has it, whatever form it is written in."""

import tomllib
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_lb.config.locator import KeyPath, locate, locate_partly

WORDS = ["pool", "a-b", "x_1", "7"]
QUOTED = ["a b", "it's", 'say "x"', "a.b", "a=b", "[t]", "#no", "ü", "", "tab\there", "back\\slash"]
GAPS = ["", " ", "  ", "\t"]
# What a string may have that looks like something else.
TRICKY = [
    "",
    "]",
    "}",
    "#",
    "a, b",
    "= 1",
    "[x]",
    "${X}",
    "\\ n",
    "'",
    "''",
    '"',
    '""',
    "\n[no]\nkey = 1\n",
    "é漢",
    "\\",
]


class Writer:
    """Writes a document by what it draws; every key and every value is one of its kind, so that none is taken for another."""

    def __init__(self, draw: Any) -> None:
        self.draw = draw
        self.numbers = count()

    def one_of(self, *choices: Any) -> Any:
        return self.draw(st.sampled_from(choices))

    def key(self) -> str:
        number = next(self.numbers)
        if self.one_of(True, False):
            return f"{self.one_of(*WORDS)}{number}"
        word = self.one_of(*QUOTED)
        if "'" not in word and self.one_of(True, False):
            return f"'{word}{number}'"
        return escaped(f"{word}{number}")

    def dotted(self) -> str:
        return f"{self.gap()}.{self.gap()}".join(self.key() for _ in range(self.one_of(1, 1, 1, 2, 3)))

    def gap(self) -> str:
        return str(self.one_of(*GAPS))

    def wide_gap(self) -> str:
        return self.gap() + str(self.one_of("", "", "\n", " # ], } = \" '''\n", "\n\n  # x\n\t"))

    def value(self, depth: int = 0) -> str:
        kinds = [self.number, self.string, self.date] + ([self.array, self.inline_table] if depth < 3 else [])
        kind = self.one_of(*kinds)
        return str(kind(depth) if kind in (self.array, self.inline_table) else kind())

    def number(self) -> str:
        number = next(self.numbers)
        return str(self.one_of(f"{number}", f"+{number}", f"{number}.5", f"{number}e2", f"0x{number:x}"))

    def date(self) -> str:
        day = f"{1000 + next(self.numbers)}-05-27"
        return str(self.one_of(day, f"{day} 07:32:00", f"{day}T07:32:00Z", f"{day} 00:32:00.5-07:00"))

    def string(self) -> str:
        text = f"{next(self.numbers)}{self.one_of(*TRICKY)}{self.one_of(*TRICKY)}"
        forms = [escaped(text)]
        if "'" not in text and "\n" not in text:
            forms.append(f"'{text}'")
        if "'''" not in text:
            forms.append(f"'''{text}'''" if not text.endswith("'''") else escaped(text))
        if '"""' not in text:
            forms.append('"""' + text.replace("\\", "\\\\") + '"""')
            forms.append('"""\n\\\n  ' + text.replace("\\", "\\\\") + '"""')
        return str(self.one_of(*forms))

    def array(self, depth: int) -> str:
        items = [self.wide_gap() + self.value(depth + 1) + self.wide_gap() for _ in range(self.draw(st.integers(0, 3)))]
        comma = self.one_of("", ",") if items else ""
        return "[" + ",".join(items) + comma + self.wide_gap() + "]"

    def inline_table(self, depth: int) -> str:
        pairs = [
            f"{self.gap()}{self.dotted()}{self.gap()}={self.gap()}{self.value(depth + 1)}{self.gap()}"
            for _ in range(self.draw(st.integers(0, 3)))
        ]
        return "{" + ",".join(pairs) + "}"

    def pair(self) -> str:
        end = self.one_of("", "", " ", " # = [x] '''")
        return f"{self.gap()}{self.dotted()}{self.gap()}={self.gap()}{self.value()}{end}"

    def document(self) -> str:
        lines = [self.pair() for _ in range(self.draw(st.integers(0, 3)))]
        headers: list[str] = []
        for _ in range(self.draw(st.integers(0, 4))):
            inner = self.one_of(*headers, "") if headers else ""
            name = f"{inner}." * bool(inner) + self.dotted()
            if self.one_of(True, False):
                headers.append(name)
                lines += self.section(f"[{self.gap()}{name}{self.gap()}]")
            else:
                for _ in range(self.one_of(1, 2, 3)):
                    lines += self.section(f"[[{self.gap()}{name}{self.gap()}]]")
                headers.append(name)
            lines += self.one_of([], [""], ["# [no]"])
        return "\n".join(lines) + str(self.one_of("", "\n", "\n\n  # end"))

    def section(self, header: str) -> Iterator[str]:
        yield self.gap() + header + str(self.one_of("", " # ]"))
        for _ in range(self.draw(st.integers(0, 3))):
            yield self.pair()


def escaped(text: str) -> str:
    for sign, written in [("\\", "\\\\"), ('"', '\\"'), ("\n", "\\n"), ("\t", "\\t")]:
        text = text.replace(sign, written)
    return f'"{text}"'


@st.composite
def documents(draw: Any) -> str:
    return Writer(draw).document()


def everything(values: Any, path: KeyPath = ()) -> Iterator[tuple[KeyPath, Any]]:
    """All there is in some values, tables and arrays included."""
    inner = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    for key, value in inner:
        yield (*path, key), value
        yield from everything(value, (*path, key))


@given(documents())
def test_every_key_value_and_item_is_where_its_text_says_the_same(text: str) -> None:
    values = tomllib.loads(text)
    spots = locate(text)
    there = dict(everything(values))
    assert spots.keys() == there.keys()
    for path, value in there.items():
        spot = spots[path]
        if spot.value.start < spot.value.end:
            assert tomllib.loads(f"x = {text[slice(*spot.value)]}") == {"x": value}
        else:
            assert isinstance(value, dict | list)
        named = text[slice(*spot.key)]
        if isinstance(path[-1], str):
            assert tomllib.loads(f"{named} = 1") == {path[-1]: 1}
        elif spot.value.start < spot.value.end:
            assert spot.key == spot.value


@given(documents(), st.integers(0, 400))
def test_a_text_that_ends_anywhere_has_what_the_whole_one_has_there(text: str, length: int) -> None:
    whole = locate(text)
    for path, spot in locate_partly(text[:length]).spots.items():
        if spot.value.end < length and not spot.implied:
            assert whole[path].key == spot.key


def places(text: str) -> dict[KeyPath, tuple[str, str]]:
    return {path: (text[slice(*spot.key)], text[slice(*spot.value)]) for path, spot in locate(text).items()}


def test_items_of_an_array_and_keys_of_an_inline_table_have_places_of_their_own() -> None:
    text = 'backends = [ "a:80", # one\n  { address = "b:80", x.y = [[1], 2] },\n]'
    assert places(text) == {
        ("backends",): ("backends", text[11:]),
        ("backends", 0): ('"a:80"', '"a:80"'),
        ("backends", 1): (text[29:-3], text[29:-3]),
        ("backends", 1, "address"): ("address", '"b:80"'),
        ("backends", 1, "x"): ("x", ""),
        ("backends", 1, "x", "y"): ("y", "[[1], 2]"),
        ("backends", 1, "x", "y", 0): ("[1]", "[1]"),
        ("backends", 1, "x", "y", 0, 0): ("1", "1"),
        ("backends", 1, "x", "y", 1): ("2", "2"),
    }


def test_tables_of_an_array_are_counted_within_the_table_that_they_are_in() -> None:
    text = "[[a]]\n[[a.b]]\nk = 1\n[[a.b]]\n[a.c]\n[[a]]\n[[a.b]]\nk = 2"
    found = locate(text)
    assert found["a", 0, "b", 0, "k"].key.start == text.index("k = 1")
    assert found["a", 1, "b", 0, "k"].key.start == text.index("k = 2")
    assert ("a", 0, "b", 1) in found
    assert ("a", 0, "c") in found
    assert ("a", 1, "c") not in found


def test_an_array_of_tables_is_where_its_first_one_is() -> None:
    assert places("[[a]]\n[[a]]") == {("a",): ("a", ""), ("a", 0): ("a", ""), ("a", 1): ("a", "")}
    assert locate("[[a]]\n[[a]]")["a",].key.start == 2


def test_a_table_is_where_it_is_named_by_itself_and_else_where_it_is_first_a_part_of_a_name() -> None:
    text = "[pools.app]\n[pools.web]\n[pools]\n[checks.a]\n[checks.b]"
    found = locate(text)
    assert (found["pools",].key.start, found["pools",].implied) == (text.index("[pools]") + 1, False)
    assert (found["checks",].key.start, found["checks",].implied) == (text.index("checks"), True)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('x = """"a""""', '""""a""""'),
        ("x = '''''a'''''", "'''''a'''''"),
        ('x = """\\""""', '"""\\""""'),
        ('x = """"""', '""""""'),
        ("x = ''''''", "''''''"),
        ('x = ""', '""'),
        ("x = 1979-05-27 07:32:00 # day", "1979-05-27 07:32:00"),
        ("x = true# yes", "true"),
    ],
)
def test_a_value_ends_where_it_ends(text: str, value: str) -> None:
    assert places(text) == {("x",): ("x", value)}
