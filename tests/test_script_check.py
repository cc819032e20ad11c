"""Script checks: what is sent and when, which answers pass, how a failure is told; and the presets, each against what it is for."""

import itertools
import random
from collections.abc import Callable, Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from probing import ProbeBench, probe_bench

from twisted_lb.config.scripts import ScriptConfig
from twisted_lb.core.address import parse_address
from twisted_lb.core.script import PRESETS, STEP_BYTES, Script, Step
from twisted_lb.net.deadlines import TICK_S
from twisted_lb.probes import ProbeResult
from twisted_lb.script_check import ScriptCheck

HERE = parse_address("a:80")
Cut = Callable[[bytes], Sequence[bytes]]


def script(*steps: Step, secrets: Sequence[bytes] = ()) -> Script:
    return Script(steps, secrets=tuple(secrets))


def preset(name: str, **said: str) -> Script:
    return ScriptConfig.model_validate({"preset": name, **said}).script


def whole(answer: bytes) -> Sequence[bytes]:
    return [answer]


def in_bytes(answer: bytes) -> Sequence[bytes]:
    return [bytes([byte]) for byte in answer]


def cut_at(*places: int) -> Cut:
    def cut(answer: bytes) -> Sequence[bytes]:
        edges = sorted({0, len(answer), *(place for place in places if place < len(answer))})
        return [answer[begin:end] for begin, end in itertools.pairwise(edges)]

    return cut


class Talk:
    """A run through a script: what a server says comes in pieces, each answer once all before it is here."""

    def __init__(self, asked: Script) -> None:
        check = ScriptCheck(asked)
        self.sent = [check.request(HERE)]
        self.hearing = check.hear(HERE)

    def hear(self, *answers: bytes, cut: Cut = whole) -> "Talk":
        for piece in itertools.chain.from_iterable(map(cut, answers)):
            if not self.hearing.over:
                self.hearing.feed(piece)
            if self.hearing.reply:
                self.sent.append(self.hearing.reply)
                self.hearing.reply = b""
        return self

    def end(self) -> "Talk":
        if not self.hearing.over:
            self.hearing.end()
        return self

    @property
    def result(self) -> ProbeResult | None:
        return self.hearing.result

    @property
    def verdict(self) -> tuple[bool, str] | None:
        return None if self.result is None else (self.result.passed, self.result.reason)


def verdict(asked: Script, *answers: bytes, cut: Cut = whole) -> tuple[bool, str] | None:
    return Talk(asked).hear(*answers, cut=cut).verdict


PING = script(Step(send=b"PING\r\n"), Step(expect=b"+PONG"))

# Steps.


def test_what_comes_first_is_sent_when_connected_and_what_follows_when_it_is_due():
    steps = [Step(expect=b"hi\n"), Step(send=b"a"), Step(send=b"b"), Step(expect=b"c"), Step(send=b"d")]
    talk = Talk(script(Step(send=b"x"), Step(send=b"y"), *steps))
    assert talk.sent == [b"xy"]
    assert talk.hear(b"h").sent == [b"xy"]
    assert talk.hear(b"i\n").sent == [b"xy", b"ab"]
    assert (talk.verdict, talk.hearing.over) == (None, False)
    assert talk.hear(b"c").sent == [b"xy", b"ab", b"d"]
    assert talk.verdict == (True, 'got "c"')


def test_who_speaks_first_is_heard_first():
    talk = Talk(script(Step(expect=b"SSH-2.0")))
    assert talk.sent == [b""]
    assert talk.hear(b"SSH-2.0-OpenSSH_9\r\n").verdict == (True, 'got "SSH-2.0"')


def test_a_script_that_ends_with_a_wait_is_over_and_one_with_a_good_bye_is_heard_to_its_end():
    talk = Talk(PING).hear(b"+PONG\r\n")
    assert (talk.verdict, talk.hearing.over) == ((True, 'got "+PONG"'), True)
    talk = Talk(script(*PING.steps, Step(send=b"QUIT\r\n"))).hear(b"+PONG\r\n")
    assert (talk.verdict, talk.hearing.over) == ((True, 'got "+PONG"'), False)
    assert talk.hear(b"-no such command\r\n").verdict == (True, 'got "+PONG"')
    assert talk.end().hearing.over
    assert talk.verdict == (True, 'got "+PONG"')


def test_of_what_follows_a_good_bye_64_kib_are_read():
    talk = Talk(script(*PING.steps, Step(send=b"QUIT\r\n"))).hear(b"+PONG\r\n", b"y" * STEP_BYTES)
    assert not talk.hearing.over
    assert talk.hear(b"y").hearing.over


def test_what_stands_behind_what_was_expected_is_left_to_the_next_step():
    steps = [Step(expect=b"one"), Step(matches=rb"t[a-z]o"), Step(expect=b"three")]
    assert verdict(script(*steps), b"one two three") == (True, 'got " three"')
    assert verdict(script(*steps), b"one three two") is None
    assert Talk(script(*steps)).hear(b"three two one").end().verdict == (
        False,
        'step 2: expected a match of "t[a-z]o", got nothing: closed',
    )


def test_what_came_before_something_was_sent_is_no_answer_to_it():
    steps = [Step(expect=b"220"), Step(send=b"EHLO x\r\n"), Step(expect=b"250")]
    talk = Talk(script(*steps)).hear(b"220 mail2502.example.org\r\n")
    assert talk.verdict is None
    assert talk.hear(b"250 hello\r\n").verdict == (True, 'got "250"')


def test_what_has_failed_is_told_at_once_and_what_came_first_counts():
    steps = [Step(send=b"PING\r\n"), Step(expect=b"+PONG", unless=rb"^-[^\n]*\n")]
    assert verdict(script(*steps), b"-LOADING Redis is loading\r\n") == (
        False,
        'step 2: expected "+PONG", got "-LOADING Redis is loading"',
    )
    assert verdict(script(*steps), b"-LOADING") is None
    assert verdict(script(*steps), b"+PONG\r\n-ERR\r\n") == (True, 'got "+PONG"')
    assert verdict(script(*steps), b"-ERR\r\n+PONG\r\n") == (
        False,
        'step 2: expected "+PONG", got "-ERR\\r\\n+PONG"',
    )


def test_a_pattern_may_name_what_is_told():
    steps = [Step(matches=rb"version (?P<said>\S+)\n", unless=rb"error (?P<said>.*)\n")]
    assert verdict(script(*steps), b"version 1.6\n") == (True, 'got "1.6"')
    assert verdict(script(*steps), b"error 17: full\n") == (
        False,
        'step 1: expected a match of "version (?P<said>\\\\S+)\\\\n", got "17: full"',
    )


@pytest.mark.parametrize("cut", [whole, in_bytes], ids=["whole", "byte by byte"])
def test_a_pattern_is_over_at_the_first_byte_with_which_it_matches(cut):
    """However greedy it is: what follows is the next step's, in one piece and in many."""
    steps = [Step(matches=rb"^a.*"), Step(expect=b"a")]
    assert verdict(script(*steps), b"ab", cut=cut) is None
    assert verdict(script(*steps), b"aba", cut=cut) == (True, 'got "ba"')


def test_lines_are_what_anchors_speak_of():
    assert verdict(script(Step(matches=rb"^ok$")), b"well\nok\n") == (True, 'got "well\\nok"')
    assert verdict(script(Step(matches=rb"\Aok")), b"well\nok\n") is None


def test_what_is_shown_is_cut_and_has_no_control_characters():
    asked = script(Step(expect=b"x"))
    reason = Talk(asked).hear(b"\x00\x1b[2J\xff" + b"y" * 500).end().result.reason
    assert reason == f'step 1: expected "x", got "\\u0000\\u001b[2J\\u00ff{"y" * 94}"...: closed'
    assert Talk(asked).hear(b"\r\n").end().result.reason == 'step 1: expected "x", got "\\r\\n": closed'


# Too much, too little, nothing.


@pytest.mark.parametrize("cut", [whole, cut_at(STEP_BYTES), cut_at(1, 70_000), cut_at(*range(0, 70_000, 1000))])
@pytest.mark.parametrize("step", [Step(expect=b"+PONG"), Step(matches=rb"\+P[O]NG")], ids=["expect", "matches"])
def test_64_kib_are_looked_at_for_each_step(cut, step):
    before = b"y" * (STEP_BYTES - 5)
    assert verdict(script(step, step), before + b"+PONG" + before + b"+PONG", cut=cut) == (
        True,
        f'got "{"y" * 100}"...',
    )
    said = verdict(script(step), before + b"y+PONG", cut=cut)
    assert said is not None
    assert said[0] is False
    assert said[1].endswith(", got 64 KiB without that")
    assert verdict(script(step), before + b"yyyyy", cut=cut) is None


@pytest.mark.parametrize(
    ("heard", "reason", "silent"),
    [
        ([], 'step 1: expected "hi", got nothing: ', True),
        ([b"h"], 'step 1: expected "hi", got "h": ', False),
        ([b"hi"], 'step 3: expected "+PONG", got nothing: ', True),
        ([b"hi", b"+PON"], 'step 3: expected "+PONG", got "+PON": ', False),
    ],
)
def test_who_says_nothing_that_is_waited_for_is_silent(heard, reason, silent):
    asked = script(Step(expect=b"hi"), *PING.steps)
    for cut_short, why in (
        (lambda one: one.end(), "closed"),
        (lambda one: one.cut("no answer in time"), "no answer in time"),
    ):
        talk = Talk(asked).hear(*heard)
        cut_short(talk.hearing)
        assert (talk.verdict, talk.hearing.over) == ((False, reason + why), True)
        assert talk.result is not None
        assert talk.result.silent is silent


def test_a_secret_that_a_server_says_again_is_not_shown():
    asked = script(Step(send=b"AUTH s3cret\r\n"), Step(expect=b"+OK"), secrets=[b"s3cret"])
    talk = Talk(asked).hear(b"-ERR unknown command 'AUTH', with args beginning with: 's3cret'\r\n").end()
    assert talk.result is not None
    assert "with: '***'" in talk.result.reason
    assert "s3cret" not in talk.result.reason + repr(asked)


# However it is cut.

PIECES = [b"a", b"b", b"ab", b"aab", b"ba", b"c"]


@given(
    texts=st.lists(st.sampled_from(PIECES), min_size=1, max_size=4),
    answer=st.text("abc", max_size=14).map(str.encode),
    places=st.lists(st.integers(0, 14), max_size=6),
    patterns=st.booleans(),
)
def test_expectations_are_found_one_behind_the_other_whatever_the_pieces(texts, answer, places, patterns):
    steps = [Step(matches=b"(?:%b)+" % one) if patterns else Step(expect=one) for one in texts]
    at: int | None = 0
    for one in texts:
        found = answer.find(one, at)
        at = None if found < 0 or at is None else found + len(one)
        if at is None:
            break
    said = verdict(script(*steps), answer, cut=cut_at(*places))
    assert (said is not None) is (at is not None)
    assert said is None or said[0]


# Presets. What servers say, and what is sent to them.

REDIS_PING, REDIS_QUIT = b"*1\r\n$4\r\nPING\r\n", b"*1\r\n$4\r\nQUIT\r\n"
POSTGRES_START = b"\x00\x00\x00\x47\x00\x03\x00\x00user\x00postgres\x00database\x00postgres\x00application_name\x00health check\x00\x00"
SASL = b"R\x00\x00\x00\x17\x00\x00\x00\x0aSCRAM-SHA-256\x00\x00"
TRUSTED = (
    b"R\x00\x00\x00\x08\x00\x00\x00\x00S\x00\x00\x00\x16application_name\x00\x00K\x00\x00\x00\x0c\x00\x00\x01\x02Z\x00\x00\x00\x05"
    b"Z\x00\x00\x00\x05I"
)


def postgres_error(code: bytes, text: bytes) -> bytes:
    fields = b"SFATAL\x00VFATAL\x00C%b\x00M%b\x00Fpostmaster.c\x00L2326\x00RProcessStartupPacket\x00\x00" % (code, text)
    return b"E" + (len(fields) + 4).to_bytes(4, "big") + fields


STARTING = postgres_error(b"57P03", b"the database system is starting up")
NO_ROLE = postgres_error(b"28000", b'role "C57P03" does not exist')
MYSQL_GREETING = (
    b"\x4a\x00\x00\x00\x0a8.0.36\x00\x08\x00\x00\x00abcdefgh\x00\xff\xf7\x08\x02\x00\xff\xdf\x15"
    + bytes(10)
    + b"ijklmnopqrst\x00"
    b"mysql_native_password\x00"
)
MYSQL_OK = b"\x07\x00\x00\x02\x00\x00\x00\x02\x00\x00\x00"
MYSQL_BLOCKED = b"\x1b\x00\x00\x00\xff\x69\x04Host '10.0.0.1' is blocked"
MYSQL_LOGIN = (
    b"\x3d\x00\x00\x01\x00\x82\x08\x00\x00\x00\x00\x01\x21" + bytes(23) + b"check\x00\x00mysql_native_password\x00"
)
BANNER = b"220-mail.example.org ESMTP 421\r\n220 no spam\r\n"

# The preset, what it hears in turn, what was sent meanwhile, and what comes of it.
TALKS = [
    ("redis", {}, [b"+PONG\r\n", b"+OK\r\n"], [REDIS_PING, REDIS_QUIT], (True, 'got "+PONG"')),
    ("redis", {"password": "pw"}, [b"+OK\r\n", b"+PONG\r\n", b"+OK\r\n"],
     [b"*2\r\n$4\r\nAUTH\r\n$2\r\npw\r\n", REDIS_PING, REDIS_QUIT], (True, 'got "+PONG"')),
    ("redis", {"user": "check", "password": "süß"}, [b"+OK\r\n", b"+PONG\r\n", b"+OK\r\n"],
     [b"*3\r\n$4\r\nAUTH\r\n$5\r\ncheck\r\n$5\r\ns\xc3\xbc\xc3\x9f\r\n", REDIS_PING, REDIS_QUIT], (True, 'got "+PONG"')),
    ("redis", {"password": "pw"}, [b"-WRONGPASS invalid username-password pair or user is disabled.\r\n"], [b"*2\r\n$4\r\nAUTH\r\n$2\r\npw\r\n"],
     (False, 'step 2: expected "+OK", got "-WRONGPASS invalid username-password pair or user is disabled."')),
    ("redis", {}, [b"-NOAUTH Authentication required.\r\n"], [REDIS_PING],
     (False, 'step 2: expected "+PONG", got "-NOAUTH Authentication required."')),
    ("redis", {}, [b"-LOADING Redis is loading the dataset in memory\r\n"], [REDIS_PING],
     (False, 'step 2: expected "+PONG", got "-LOADING Redis is loading the dataset in memory"')),
    ("memcached", {}, [b"VERSION 1.6.18\r\n"], [b"version\r\n", b"quit\r\n"], (True, 'got "VERSION 1.6.18"')),
    ("memcached", {}, [b"ERROR\r\n"], [b"version\r\n"], (False, 'step 2: expected VERSION, got "ERROR"')),
    ("smtp", {}, [BANNER, b"250-mail.example.org\r\n250-SIZE 1000\r\n250 HELP\r\n", b"221 2.0.0 Bye\r\n"],
     [b"", b"EHLO localhost\r\n", b"QUIT\r\n"], (True, 'got "221 2.0.0 Bye"')),
    ("smtp", {"hello": "lb.example.org"}, [b"220\r\n", b"250\n", b"221 bye\n"], [b"", b"EHLO lb.example.org\r\n", b"QUIT\r\n"],
     (True, 'got "221 bye"')),
    ("smtp", {}, [b"554 no service\r\n"], [b""], (False, 'step 1: expected 220, got "554 no service"')),
    ("smtp", {}, [b"220 hi\r\n", b"250-x\r\n421 4.3.2 closing\r\n"], [b"", b"EHLO localhost\r\n"],
     (False, 'step 3: expected 250, got "250-x\\r\\n421 4.3.2 closing"')),
    ("postgresql", {}, [SASL], [POSTGRES_START], (True, "a PostgreSQL that takes connections")),
    ("postgresql", {}, [b"R\x00\x00\x00\x0c\x00\x00\x00\x05salt"], [POSTGRES_START], (True, "a PostgreSQL that takes connections")),
    ("postgresql", {}, [TRUSTED], [POSTGRES_START], (True, "a PostgreSQL that takes connections")),
    ("postgresql", {}, [NO_ROLE], [POSTGRES_START], (True, "a PostgreSQL that takes connections")),
    ("postgresql", {}, [TRUSTED[:9] + NO_ROLE], [POSTGRES_START], (True, "a PostgreSQL that takes connections")),
    ("postgresql", {"user": "u", "database": "d"}, [STARTING],
     [b"\x00\x00\x00\x39\x00\x03\x00\x00user\x00u\x00database\x00d\x00application_name\x00health check\x00\x00"],
     (False, 'step 2: expected a PostgreSQL that takes connections, got "the database system is starting up"')),
    ("postgresql", {}, [TRUSTED[:9] + STARTING], [POSTGRES_START],
     (False, 'step 2: expected a PostgreSQL that takes connections, got "the database system is starting up"')),
    ("mysql", {}, [MYSQL_GREETING], [b""], (True, 'got "8.0.36"')),
    ("mysql", {"user": "check"}, [MYSQL_GREETING, MYSQL_OK], [b"", MYSQL_LOGIN, b"\x01\x00\x00\x00\x01"], (True, "OK")),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "said", "answers", "sent", "comes"), TALKS, ids=[f"{t[0]} {t[2][-1]!r}"[:40] for t in TALKS]
)
def test_a_preset_comes_to_the_same_wherever_an_answer_is_cut(name, said, answers, sent, comes):
    asked = preset(name, **said)
    cuts = [whole, in_bytes, *(cut_at(place) for place in range(1, max(map(len, answers))))]
    rng = random.Random(20)
    cuts += [cut_at(*rng.choices(range(1, 60), k=rng.randrange(1, 8))) for _ in range(30)]
    for cut in cuts:
        talk = Talk(asked).hear(*answers, cut=cut)
        assert (talk.verdict, talk.sent) == (comes, sent)


@pytest.mark.parametrize(
    ("name", "said", "answers"),
    [(name, said, answers) for name, said, answers, _, comes in TALKS if comes[0]],
    ids=[f"{t[0]} {t[2][-1]!r}"[:40] for t in TALKS if t[4][0]],
)
def test_a_preset_passes_nobody_who_leaves_before_the_last_byte_that_matters(name, said, answers):
    asked = preset(name, **said)
    judged = b"".join(answers[: sum(one.waits for one in asked.steps)])
    # Whoever asks for a password takes connections, whatever else is in that.
    last = 9 if judged[:1] == b"R" and judged[5:9] != bytes(4) else len(judged)
    for length in range(last + 1):
        pieces, left = [], length
        for one in answers:
            pieces.append(one[:left])
            left -= len(pieces[-1])
        talk = Talk(asked).hear(*pieces).end()
        assert talk.result is not None
        assert talk.result.passed is (length == last)
        assert talk.result.reason.endswith(": closed") is not talk.result.passed


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (MYSQL_BLOCKED, "Host '10.0.0.1' is blocked"),
        (b"\x17\x00\x00\x00\xff\x10\x04#08004Too many connections", "Too many connections"),
    ],
)
def test_a_mysql_that_lets_nobody_in_says_why(answer, told):
    assert verdict(preset("mysql"), answer) == (False, f'step 1: expected a greeting of MySQL, got "{told}"')


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (
            b"\x48\x00\x00\x02\xff\x15\x04#28000Access denied for user 'check'@'lb'",
            "Access denied for user 'check'@'lb'",
        ),
        (b"\x2c\x00\x00\x02\xfecaching_sha2_password\x00abcdefghijklmnopqrst\x00", "caching_sha2_password"),
    ],
)
def test_a_mysql_that_refuses_the_user_says_why(answer, told):
    assert verdict(preset("mysql", user="check"), MYSQL_GREETING, answer) == (
        False,
        f'step 3: expected OK, got "{told}"',
    )


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-x\r\n", b"\x15\x03\x01\x00\x02\x02\x16", b"\x00" * 200]
)
def test_no_preset_takes_another_server_for_its_own(name, answer):
    talk = Talk(preset(name)).hear(answer).end()
    assert talk.result is not None
    assert (talk.result.passed, talk.result.silent) == (False, False)


@pytest.mark.parametrize("name", PRESETS)
def test_wild_answers_end_in_a_verdict_and_nothing_else(name):
    rng = random.Random(name)
    said = [b"".join(answers) for one, _, answers, *_ in TALKS if one == name]
    for _ in range(300):
        answer = bytearray(rng.choice(said))
        for _ in range(rng.randrange(1, 6)):
            answer[rng.randrange(len(answer))] = rng.randrange(256)
        places = rng.choices(range(len(answer)), k=rng.randrange(6))
        talk = Talk(preset(name)).hear(bytes(answer), cut=cut_at(*places)).end()
        assert talk.hearing.over
        assert talk.result is not None
        assert talk.result.reason.isprintable()


# Over connections.


class Server:
    """A server that says `greeting` to whoever connects, and one of `answers` to each piece that comes; the last one closes if it `closes`."""

    def __init__(self, bench: ProbeBench, greeting: bytes, *answers: bytes, closes: bool = False) -> None:
        self.greeting, self.answers, self.closes = greeting, answers, closes
        self.connections: list[_Served] = []
        bench.network.listen("a:80", self._accept)

    def _accept(self) -> "_Served":
        self.connections.append(_Served(self))
        return self.connections[-1]


class _Served:
    def __init__(self, server: Server) -> None:
        self.server = server
        self.answers = list(server.answers)
        self.received: list[bytes] = []
        self.ended = ""

    def makeConnection(self, transport):
        self.transport = transport
        if self.server.greeting:
            transport.write(self.server.greeting)

    def dataReceived(self, data):
        self.received.append(data)
        if self.answers:
            self.transport.write(self.answers.pop(0))
        if not self.answers and self.server.closes:
            self.ended = "closed by itself"
            self.transport.loseConnection()

    def readConnectionLost(self):
        self.ended = "a FIN came"
        self.transport.loseConnection()

    def connectionLost(self, reason):
        self.ended = self.ended or f"cut: {reason.getErrorMessage()}"


@pytest.fixture
def bench() -> Iterator[ProbeBench]:
    with probe_bench() as one:
        yield one


def probe(bench: ProbeBench, asked: Script):
    return bench._probe(ScriptCheck(asked))


def test_a_script_is_talked_through_and_ends_in_order(bench):
    server = Server(bench, BANNER, b"250 hi\r\n", b"221 bye\r\n", closes=True)
    assert bench.ask(probe(bench, preset("smtp"))) == [(True, 'got "221 bye"')]
    [one] = server.connections
    assert one.received == [b"EHLO localhost\r\n", b"QUIT\r\n"]
    assert one.ended == "closed by itself"


def test_after_a_good_bye_the_server_closes_first(bench):
    server = Server(bench, b"", b"+PONG\r\n", b"+OK\r\n", closes=True)
    assert bench.ask(probe(bench, preset("redis"))) == [(True, 'got "+PONG"')]
    assert server.connections[0].received == [REDIS_PING, REDIS_QUIT]
    assert server.connections[0].ended == "closed by itself"


def test_a_server_that_does_not_mind_a_good_bye_is_closed_when_the_time_is_over(bench):
    server = Server(bench, b"", b"+PONG\r\n")
    assert bench.ask(probe(bench, preset("redis")), timeout_s=1.0) == [(True, 'got "+PONG"')]
    assert server.connections[0].ended == ""
    bench.clock.advance(1 + 2 * TICK_S)
    assert server.connections[0].ended == "a FIN came"


def test_a_script_without_a_good_bye_ends_with_a_fin(bench):
    server = Server(bench, b"", b"+PONG\r\n")
    assert bench.ask(probe(bench, PING)) == [(True, 'got "+PONG"')]
    assert (server.connections[0].received, server.connections[0].ended) == ([b"PING\r\n"], "a FIN came")


def test_the_time_is_for_all_steps_together(bench):
    Server(bench, b"220 hi\r\n", b"250-slow\r\n")
    results = bench.ask(probe(bench, preset("smtp")), timeout_s=1.0)
    bench.clock.advance(0.9)
    assert results == []
    bench.clock.advance(0.1 + 2 * TICK_S)
    assert results == [(False, 'step 3: expected 250, got "250-slow": no answer in time')]


def test_who_accepts_and_says_nothing_is_silent(bench):
    Server(bench, b"")
    told: list[ProbeResult] = []
    probe(bench, preset("redis")).ask(HERE, 1.0).addCallback(told.append)
    bench.clock.advance(1 + 2 * TICK_S)
    [result] = told
    assert (result.passed, result.silent, result.conclusive) == (False, True, True)
    assert result.reason == 'step 2: expected "+PONG", got nothing: no answer in time'


def test_nobody_there_is_what_it_is_for_every_check(bench):
    assert bench.ask(probe(bench, preset("redis"))) == [(False, "connection refused")]
