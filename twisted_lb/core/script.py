"""Scripts of checks: what is sent to a backend and waited for, step by step (HAProxy's tcp-check), and the presets that are such steps."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

# So much of what came since the last step is looked at, as of the answer to an HTTP check.
STEP_BYTES: Final = 65536


@dataclass(frozen=True)
class Step:
    """One step: `send` is sent; or what comes has to have `expect` in it, or to match `matches`, regular expressions over bytes,
    within STEP_BYTES. What matches `unless` first has failed at once. `what`: what is waited for in words, where its bytes are none.
    """

    send: bytes = field(default=b"", repr=False)  # it may be a secret
    expect: bytes = b""
    matches: bytes = b""
    unless: bytes = b""
    what: str = ""

    @property
    def waits(self) -> bool:
        """Whether it waits for something."""
        return bool(self.expect or self.matches)


@dataclass(frozen=True)
class Script:
    """A script: its steps, in their order, and the `preset` that has them, if one has; `secrets` are never shown, whoever says them
    again.
    """

    steps: tuple[Step, ...]
    preset: str = ""
    secrets: tuple[bytes, ...] = field(default=(), repr=False)

    @property
    def said(self) -> str:
        """What it is, in a few words."""
        return f"script {self.preset}" if self.preset else f"script of {len(self.steps)} steps"


@dataclass(frozen=True)
class Preset:
    """A script that is here already: the `keys` that may be said of it, what it is in one line, and its steps by their values."""

    keys: tuple[str, ...]
    about: str
    steps: Callable[[Mapping[str, bytes]], Sequence[Step]]


# A line of an answer in Redis' protocol (RESP) that begins with `-` is an error, such as -NOAUTH or -LOADING.
_REDIS_ERROR: Final = rb"\A-[^\n]*\n"


def _resp(*words: bytes) -> bytes:
    """A command as an array of RESP: whoever stands before a Redis does not always know the short form, in one line."""
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)


def _redis(said: Mapping[str, bytes]) -> Sequence[Step]:
    steps = []
    if "password" in said:
        words = [said[key] for key in ("user", "password") if key in said]
        steps += [Step(send=_resp(b"AUTH", *words)), Step(expect=b"+OK\r\n", unless=_REDIS_ERROR)]
    ping = [Step(send=_resp(b"PING")), Step(expect=b"+PONG\r\n", unless=_REDIS_ERROR)]
    return [*steps, *ping, Step(send=_resp(b"QUIT"))]


# What pg_isready goes by (libpq, internal_ping): who asks for a password, is content, or refuses this user for any other reason
# than 57P03 (starting up, shutting down, in recovery) takes connections. A server that trusts its clients says all that it has to
# say, to ReadyForQuery, before the connection is closed: else it would find it closed while it speaks, and complain. To one that asks for a
# password no Terminate is sent: it would be logged as another message than that, and a mere FIN is not.
_AUTHENTICATION_OK: Final = rb"R\x00\x00\x00\x08\x00\x00\x00\x00"
_POSTGRES_ANSWERS: Final = (
    rb"(?s)\A(?:R.{4}(?!\x00{4}).{4}|"
    + _AUTHENTICATION_OK
    + rb".*Z\x00\x00\x00\x05I|(?:"
    + _AUTHENTICATION_OK
    + rb")?E.{4}(?:[^\x00]+\x00)+\x00)"
)
_POSTGRES_REJECTS: Final = (
    rb"(?s)\A(?:" + _AUTHENTICATION_OK + rb")?E.{4}(?:[^\x00]+\x00)*?C57P03\x00M(?P<said>[^\x00]*)\x00"
)


def _postgresql(said: Mapping[str, bytes]) -> Sequence[Step]:
    user = said.get("user", b"postgres")
    words = (b"user", user, b"database", said.get("database", user), b"application_name", b"health check")
    packet = b"\x00\x03\x00\x00" + b"".join(word + b"\x00" for word in words) + b"\x00"
    return [
        Step(send=(len(packet) + 4).to_bytes(4, "big") + packet),
        Step(matches=_POSTGRES_ANSWERS, unless=_POSTGRES_REJECTS, what="a PostgreSQL that takes connections"),
    ]


def _reply(status: bytes) -> Step:
    """The wait for an SMTP reply with this status, which may have several lines (RFC 5321 4.2.1); whole, since nobody speaks before."""
    before = rb"\A(?:" + status + rb"-[^\n]*\n)*"
    return Step(
        matches=before + status + rb"(?: [^\n]*|\r?)\n",
        unless=before + rb"(?!" + status + rb"[- \r\n])[^\n]*\n",
        what=f"{status.decode('ascii')}",
    )


def _smtp(said: Mapping[str, bytes]) -> Sequence[Step]:
    hello = b"EHLO " + said.get("hello", b"localhost") + b"\r\n"
    return [_reply(b"220"), Step(send=hello), _reply(b"250"), Step(send=b"QUIT\r\n"), _reply(b"221")]


# The first packet of a server of protocol 10, to its end: version (MariaDB's is behind one that old replicas understand), thread,
# nonce, capabilities, character set, status, more of them, and the name of the plugin. An error in its place says why nobody is let in.
_MYSQL_GREETING: Final = rb"(?s)\A.{3}\x00\x0a(?:5\.5\.5-)?(?P<said>[^\x00]+)\x00.{4}.{8}\x00.{2}.{1}.{2}.{2}.{1}.{10}[^\x00]{12,}\x00[^\x00]+\x00"
_MYSQL_ERROR: Final = rb"(?s)\A.{4}\xff.{2}(?:#.{5})?(?P<said>.+)"
# 4.1's protocol, its passwords, and the name of a plugin.
_MYSQL_CAPABILITIES: Final = (0x200 | 0x8000 | 0x80000).to_bytes(4, "little")
_COM_QUIT: Final = b"\x01\x00\x00\x00\x01"


def _mysql(said: Mapping[str, bytes]) -> Sequence[Step]:
    greeting = Step(matches=_MYSQL_GREETING, unless=_MYSQL_ERROR, what="a greeting of MySQL")
    if "user" not in said:
        return [greeting]
    # 16 MiB, UTF-8, as clients say; no password.
    packet = _MYSQL_CAPABILITIES + b"\x00\x00\x00\x01" + b"\x21" + bytes(23)
    packet += said["user"] + b"\x00" + b"\x00" + b"mysql_native_password\x00"
    return [
        greeting,
        Step(send=len(packet).to_bytes(3, "little") + b"\x01" + packet),
        Step(
            matches=rb"(?s)\A.{3}\x02\x00.{6}",
            # Or it wants another way to authenticate, which it names.
            unless=rb"(?s)\A.{4}(?:\xff.{2}(?:#.{5})?|\xfe)(?P<said>[^\x00]+)",
            what="OK",
        ),
        Step(send=_COM_QUIT),
    ]


def _memcached(_: Mapping[str, bytes]) -> Sequence[Step]:
    return [
        Step(send=b"version\r\n"),
        Step(matches=rb"\AVERSION [^\n]*\n", unless=rb"\A(?!VERSION )[^\n]*\n", what="VERSION"),
        Step(send=b"quit\r\n"),
    ]


PRESETS: Final[Mapping[str, Preset]] = {
    "memcached": Preset((), "`version`, and it says which one it is.", _memcached),
    "mysql": Preset(
        ("user",),
        "The greeting of MySQL or MariaDB; with `user`, one without a password, also an authentication, ended in order.",
        _mysql,
    ),
    "postgresql": Preset(
        ("user", "database"),
        "A startup packet, as `pg_isready` sends it: who asks for a password, or refuses `user`, takes connections; who starts up or "
        "shuts down does not.",
        _postgresql,
    ),
    "redis": Preset(("user", "password"), "`PING`, behind an `AUTH` where there is a `password`.", _redis),
    "smtp": Preset(("hello",), "The banner, `EHLO`, and `QUIT`.", _smtp),
}
