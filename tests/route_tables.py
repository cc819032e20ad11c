"""Random routing tables, and requests in random spellings that they have something to say about."""

from hypothesis import strategies as st
from routing_oracle import Request, Those

from twisted_lb.core.routing import FieldRule, How, RouteMatch

OFFICE = Those(frozenset(("10.0.0.1", "2001:db8::1")))

LABELS = ("a", "b", "example")
HOSTS = st.lists(st.sampled_from(LABELS), min_size=1, max_size=3).map(
    lambda labels: ".".join([*labels, "com"]).encode()
)
SEGMENTS = (b"a", b"b", b"c", b"a b", b"a%2Fb", b"a;x")
PATHS = st.lists(st.sampled_from(SEGMENTS), max_size=3).map(lambda segments: b"/" + b"/".join(segments))
PREFIXES = st.tuples(PATHS, st.sampled_from([b"", b"/"])).map(lambda two: two[0] if two[0] == b"/" else two[0] + two[1])
RULES = st.builds(
    FieldRule, st.sampled_from([b"x-a", b"x-b"]), st.sampled_from(list(How)), st.sampled_from([b"", b"1", b"1 2"])
)


def few(strategy):
    return st.lists(strategy, max_size=2).map(tuple)


MATCH = st.builds(
    RouteMatch,
    hosts=few(st.one_of(HOSTS, HOSTS.map(lambda host: b"*." + host))),
    paths=few(PATHS),
    prefixes=few(PREFIXES),
    methods=few(st.sampled_from([b"GET", b"POST"])),
    headers=few(RULES),
    query=few(RULES),
    clients=st.sampled_from([None, None, None, OFFICE]),
)
# Without conditions, of which few rows are left to others.
PLAIN_MATCH = st.builds(
    RouteMatch, hosts=MATCH.map(lambda match: match.hosts), paths=few(PATHS), prefixes=few(PREFIXES)
)
TABLES = st.lists(st.one_of(PLAIN_MATCH, MATCH), max_size=12)


HOST_SPELLINGS = st.builds(
    lambda host, spell, end: spell(host) + end,
    HOSTS,
    st.sampled_from([bytes.lower, bytes.upper, bytes.title]),
    st.sampled_from([b"", b".", b":", b":8080", b".:80"]),
)
SEGMENT_SPELLINGS = st.builds(
    lambda before, segment, escaped: before + (b"%%%02x%b" % (segment[0], segment[1:]) if escaped else segment),
    st.sampled_from([b"/", b"/", b"/", b"//", b"/./", b"/x/../", b"/;y/"]),
    st.sampled_from([segment.replace(b" ", b"%20") for segment in SEGMENTS]),
    st.booleans(),
)
TARGETS = st.builds(
    lambda segments, end, query: b"".join(segments) + (end if segments else b"/") + query,
    st.lists(SEGMENT_SPELLINGS, max_size=3),
    st.sampled_from([b"", b"", b"/", b"/.", b"/x", b"/x/..", b"x", b";y"]),
    st.sampled_from([b"", b"?", b"?x-a", b"?x-a=1&x-b=1+2", b"?x-b=%31&x-a=2", b"?x-b=1%202"]),
)
VALUES = st.sampled_from([b"", b"1", b"1 2", b"2"])
REQUESTS = st.builds(
    lambda host, target, absolute, *rest: Request(host, b"http://" + host + target if absolute else target, *rest),
    HOST_SPELLINGS,
    TARGETS,
    st.booleans(),
    st.sampled_from([b"GET", b"POST"]),
    st.lists(st.tuples(st.sampled_from([b"X-A", b"x-b"]), VALUES), max_size=3).map(tuple),
    st.sampled_from(["10.0.0.1", "x"]),
)
