"""Lists in Prometheus' JSON: what they may hold, and how each mistake is named."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_lb.core.address import TcpAddress, UnixAddress
from twisted_lb.core.backend import BackendSpec
from twisted_lb.discovery.prometheus import MOST_BYTES, MOST_TARGETS, Malformed, read_targets


def read(value: object, *, sockets: bool = True) -> list[BackendSpec]:
    return read_targets(json.dumps(value).encode(), sockets=sockets)


def refusal(data: bytes, *, sockets: bool = True) -> str:
    with pytest.raises(Malformed) as refused:
        read_targets(data, sockets=sockets)
    return str(refused.value)


def test_a_weight_that_no_label_says_is_the_usual_one():
    data = json.dumps([{"targets": ["a:1"]}, {"targets": ["b:1"], "labels": {"weight": "1"}}]).encode()
    assert [spec.weight for spec in read_targets(data, sockets=True, weight=7)] == [7, 1]


def test_a_weight_of_0_is_one_that_gets_no_new_requests():
    [spec] = read_targets(b'[{"targets": ["a:1"], "labels": {"weight": "0"}}]', sockets=True)
    assert spec.weight == 0


def test_groups_share_their_labels_of_which_weight_and_name_are_the_backends():
    found = read(
        [
            {"targets": ["10.0.0.1:8000", "[::1]:80"], "labels": {"weight": "3", "zone": "a", "__meta_x": ""}},
            {"targets": ["app.internal:8080"], "labels": {"name": "big"}},
            {"targets": ["unix:/run/app.sock"]},
            {"targets": []},
            {"targets": ["b:1"], "labels": None},
        ]
    )
    assert found == [
        BackendSpec("10.0.0.1:8000", TcpAddress("10.0.0.1", 8000), 3, labels=(("__meta_x", ""), ("zone", "a"))),
        BackendSpec("[::1]:80", TcpAddress("::1", 80), 3, labels=(("__meta_x", ""), ("zone", "a"))),
        BackendSpec("big", TcpAddress("app.internal", 8080)),
        BackendSpec("unix:/run/app.sock", UnixAddress("/run/app.sock")),
        BackendSpec("b:1", TcpAddress("b", 1)),
    ]


def test_an_empty_list_is_a_list():
    assert read([]) == []


def test_a_byte_order_mark_is_no_mistake():
    assert len(read_targets(b'\xef\xbb\xbf[{"targets": ["a:80"]}]', sockets=True)) == 1


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("", "line 1, column 1: not JSON, which alone is read, and no YAML"),
        ("- targets:\n  - a:80\n", "line 1, column 1: not JSON, which alone is read, and no YAML"),
        ('[\n {"targets": ["a:80",]}\n]', "line 2, column 22: not JSON, which alone is read, and no YAML"),
        ('[{"targets": ["a:80"]}', "line 1, column 23: not JSON, which alone is read, and no YAML"),
        ("<html>", "line 1, column 1: not JSON, which alone is read, and no YAML"),
        ("[" * 100_000, "nested too deeply"),
        ("9" * 5000, 'should be a list, such as [{"targets": ["10.0.0.1:8000"]}], not a number'),
        ("NaN", 'should be a list, such as [{"targets": ["10.0.0.1:8000"]}], not a number'),
        ("null", 'should be a list, such as [{"targets": ["10.0.0.1:8000"]}], not null'),
        ('{"targets": ["a:80"]}', 'should be a list, such as [{"targets": ["10.0.0.1:8000"]}], not a table'),
        ('["a:80"]', "[0]: should be a table with targets, not a string"),
        ("[null]", "[0]: should be a table with targets, not null"),
        ("[{}]", "[0].targets: should be a list of HOST:PORT, not null"),
        ('[{"targets": "a:80"}]', "[0].targets: should be a list of HOST:PORT, not a string"),
        ('[{"targets": []}, {"target": []}]', "[1]: unknown key 'target', there are targets and labels"),
        ('[{"targets": [], "targets": []}]', "the key 'targets' is there twice in one table"),
        ('[{"targets": ["a:80", 7]}]', "[0].targets[1]: should be a string HOST:PORT, not a number"),
        ('[{"targets": ["a"]}]', "[0].targets[0]: 'a': no port, expected HOST:PORT"),
        ('[{"targets": ["a:80\\n"]}]', "[0].targets[0]: 'a:80\\n': '80\\n' is not a port between 1 and 65535"),
        ('[{"targets": ["http://a:80"]}]', "[0].targets[0]: 'http://a:80': no http://, expected HOST:PORT"),
        ('[{"targets": ["a:80,weight=2"]}]', "'80,weight=2' is not a port between 1 and 65535"),
        ('[{"targets": ["%s"]}]' % ("x" * 400), f"[0].targets[0]: '{'x' * 60}'... is longer than any address"),
        ('[{"targets": [], "labels": []}]', "[0].labels: should be a table of strings, not a list"),
        ('[{"targets": [], "labels": {"": "a"}}]', "[0].labels: a label without a name"),
        ('[{"targets": [], "labels": {"weight": 2}}]', '[0].labels.weight: should be a string, as "2", not a number'),
        ('[{"targets": [], "labels": {"a b": true}}]', "[0].labels.'a b': should be a string, as \"2\", not true"),
        (
            '[{"targets": ["a:1"], "labels": {"weight": "-1"}}]',
            "[0].labels.weight: '-1' is not a weight, a whole number from 0 to 256",
        ),
        (
            '[{"targets": [], "labels": {"weight": "257"}}]',
            "[0].labels.weight: '257' is not a weight, a whole number from 0 to 256",
        ),
        ('[{"targets": [], "labels": {"weight": "\\u0661"}}]', "is not a weight, a whole number from 0 to 256"),
        ('[{"targets": ["a:1"], "labels": {"name": ""}}]', "[0].labels.name: '' should be 1 to 100 printable ASCII"),
        (
            '[{"targets": ["a:1"], "labels": {"name": "a b"}}]',
            "[0].labels.name: 'a b' should be 1 to 100 printable ASCII",
        ),
        (
            '[{"targets": ["a:1", "b:1"], "labels": {"name": "x"}}]',
            "[0].labels.name: 'x' cannot be the name of 2 targets",
        ),
        ('[{"targets": ["a:1", "A.:1"]}]', "[0].targets[1]: A.:1 is there already, at [0].targets[0]"),
        (
            '[{"targets": ["a:1"], "labels": {"name": "x"}}, {"targets": ["b:1"], "labels": {"name": "x"}}]',
            "[1].targets[0]: the name x is there already, at [0].targets[0]",
        ),
        (
            '[{"targets": ["a:1"]}, {"targets": ["b:1"], "labels": {"name": "a:1"}}]',
            "[1].targets[0]: the name a:1 is there already, at [0].targets[0]",
        ),
    ],
)
def test_what_is_malformed_is_refused_as_a_whole_with_what_and_where(text, wrong):
    found = refusal(text.encode())
    assert wrong in found
    assert found.isprintable()


def test_what_is_no_text_is_refused():
    assert refusal(b'[{"targets": ["\xff"]}]') == "byte 15: not UTF-8"
    assert refusal("[]".encode("utf-16")) == "byte 0: not UTF-8"


def test_a_socket_of_this_machine_is_not_for_others_to_name():
    data = b'[{"targets": ["a:80", "unix:/run/docker.sock"]}]'
    assert len(read_targets(data, sockets=True)) == 2
    assert refusal(data, sockets=False) == (
        "[0].targets[1]: unix:/run/docker.sock is a socket of this machine, which only a list in a file may name"
    )


def test_size_and_number_are_bounded():
    assert refusal(b" " * (MOST_BYTES + 1)) == f"longer than {MOST_BYTES} bytes"
    many = [{"targets": [f"10.0.{n // 250}.{n % 250}:80" for n in range(MOST_TARGETS)]}]
    assert len(read(many)) == MOST_TARGETS
    many.append({"targets": ["a:80"]})
    assert refusal(json.dumps(many).encode()) == f"{MOST_TARGETS + 1} targets, {MOST_TARGETS} are the most"


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.sampled_from(["a:80", "weight", "x", ""]) | st.text(),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.sampled_from(["targets", "labels", "name", "weight", "é"]), inner)
    ),
)


def outcome(data: bytes) -> str:
    """The names in a list, or why it is refused."""
    try:
        return " ".join(spec.name for spec in read_targets(data, sockets=True))
    except Malformed as refused:
        return str(refused)


@given(JSON)
def test_whatever_json_it_is_it_is_a_list_or_refused_in_one_line(value):
    assert outcome(json.dumps(value).encode()).isprintable()


@given(st.binary())
def test_whatever_bytes_they_are_they_are_a_list_or_refused_in_one_line(data):
    assert outcome(data).isprintable()
