"""Costs of requests: a number, that of the bytes, or what a field says, and where it is compared."""

import pytest
from house import GET

from twisted_lb.config.load import from_flags
from twisted_lb.core.ask import ANY, MOST_COST
from twisted_lb.core.outcome import Outcome
from twisted_lb.errors import ConfigError
from twisted_lb.net.request_cost import BYTES_EACH, RequestCost
from twisted_lb.testing import NEVER_ANSWER
from twisted_lb.wire.grammar import Limits
from twisted_lb.wire.request import parse_request

BY_COST = {"choose": "scan", "load": "cost"}


def cost_of(cost, lines=b"", method=b"POST"):
    head = parse_request(
        method + b" / HTTP/1.1\r\nHost: x\r\n" + lines[:-2] if lines else method + b" / HTTP/1.1\r\nHost: x", Limits()
    )
    return cost.ask(head, head.lines).cost


@pytest.mark.parametrize(
    ("length", "cost"),
    [(0, 1), (1, 1), (BYTES_EACH - 1, 1), (BYTES_EACH, 2), (10 * BYTES_EACH, 11), (1 << 40, MOST_COST)],
)
def test_of_a_body_each_4096_bytes_are_one_more(length, cost):
    assert cost_of(RequestCost(by_bytes=True), b"Content-Length: %d\r\n" % length) == cost


def test_a_body_of_which_nobody_knows_the_length_is_ordinary():
    assert cost_of(RequestCost(by_bytes=True), b"Transfer-Encoding: chunked\r\n") == 1


@pytest.mark.parametrize(
    ("said", "cost"),
    [
        (b"X-Cost: 7\r\n", 7),
        (b"x-cost:7\r\n", 7),
        (b"X-Cost: 007\r\n", 7),
        (b"X-Cost: 1000\r\n", 1000),
        (b"X-Cost: 1001\r\n", 1000),
        (b"X-Cost: " + b"9" * 5000 + b"\r\n", 1000),
        (b"X-Cost: 0\r\n", 1),
        (b"X-Cost: -5\r\n", 1),
        (b"X-Cost: 1e3\r\n", 1),
        (b"X-Cost: \xb2\r\n", 1),  # a digit, but none of ASCII
        (b"X-Cost: 5\r\nX-Cost: 6\r\n", 1),
        (b"X-Cost:\r\n", 1),
        (b"", 1),
    ],
)
def test_what_a_field_says_is_a_number_from_1_to_1000_or_nothing(said, cost):
    assert cost_of(RequestCost(field=b"x-cost"), said) == cost


def test_an_ordinary_one_is_the_constant():
    head = parse_request(GET[:-4], Limits())
    assert RequestCost(field=b"x-cost").ask(head, head.lines) is ANY
    same = RequestCost(5)
    assert same.ask(head, head.lines) is same.ask(head, head.lines)


def routed(build, cost, **options):
    return build(
        "a:80",
        "b:80",
        policy=BY_COST,
        routes=[{"path": "/dear", "pool": "default", "cost": cost}, {"pool": "default"}],
        **options,
    )


def at(path, lines=b""):
    return b"GET %b HTTP/1.1\r\nHost: x\r\n%b\r\n" % (path, lines)


@pytest.mark.parametrize(("cost", "lines"), [(5, b""), ({"header": "X-Cost"}, b"X-Cost: 5\r\n")])
def test_a_dear_request_weighs_as_much_as_five(build, cost, lines):
    lb = routed(build, cost)
    for name in ("a:80", "b:80"):
        lb.backend(name, lambda request: [NEVER_ANSWER])
    lb.ask(at(b"/dear", lines))
    [dear] = [one for one in lb.members if one.in_flight]
    [other] = [one for one in lb.members if one is not dear]
    for _ in range(4):
        lb.ask(at(b"/"))
    assert (dear.in_flight, other.in_flight) == (1, 4)
    assert dear.load.value(1, lb.clock.seconds()) == 5


def test_a_field_that_only_proxies_may_say_is_not_taken_from_others(build):
    lb = routed(build, {"header": "X-Cost"}, forwarding={"only_from_proxies": ["X-Cost"]})
    for name in ("a:80", "b:80"):
        lb.backend(name, lambda request: [NEVER_ANSWER])
    lb.ask(at(b"/dear", b"X-Cost: 900\r\n"))
    assert max(one.load.value(1, lb.clock.seconds()) for one in lb.members) == 1


def test_it_is_given_back_when_the_request_is_over(build):
    lb = routed(build, 9)
    for name in ("a:80", "b:80"):
        lb.backend(name)
    lb.ask(at(b"/dear"))
    assert [one.load.value(1, lb.clock.seconds()) for one in lb.members] == [0, 0]
    assert sum(one.outcomes[Outcome.OK] for one in lb.members) == 1


@pytest.mark.parametrize("cost", ["0", "1001", "true", '"much"', '{ cookie = "x" }', "{}", "1.5"])
def test_what_is_no_cost_is_said_in_one_line(tmp_path, cost):
    file = tmp_path / "lb.toml"
    file.write_text(f'backends = ["a:80"]\n[[routes]]\npool = "default"\ncost = {cost}\n')
    with pytest.raises(ConfigError) as caught:
        from_flags({}, file)
    assert "routes[0].cost: should be a whole number from 1 to 1000" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_header_is_a_name(tmp_path):
    file = tmp_path / "lb.toml"
    file.write_text('backends = ["a:80"]\n[[routes]]\npool = "default"\ncost = { header = "X Cost" }\n')
    with pytest.raises(ConfigError, match="'X Cost' should be the name of a header"):
        from_flags({}, file)
