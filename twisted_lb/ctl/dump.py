"""`lbctl support-dump`: what a bug report needs, in one file, without secrets, and on request without names of machines."""

import json
import os
import re
from argparse import ArgumentParser, Namespace
from itertools import count
from typing import Any, Final

from twisted_lb import __version__
from twisted_lb.ctl.failure import Failure, Status
from twisted_lb.ctl.session import Session, Verb, text_of
from twisted_lb.ctl.text import short_actor, time_of_day

HIDDEN: Final = "***"
# What is asked: the key in the dump, and the path.
_PARTS: Final = {
    "status": "/v1/status",
    "config": "/v1/config",
    "events": "/v1/events?after=0",
    "explain_last": "/v1/explain?last=100",
    "explain_failed": "/v1/explain?failed=100",
    "explain_slowest": "/v1/explain?slowest=20",
}

# Keys whose value is nobody's business, whatever it is.
_SECRET_KEY: Final = re.compile(
    r"authorization|cookie|token|secret|passw|passphrase|credential|api.?key|private.?key|session|signature|csrf|jwt",
    re.IGNORECASE,
)
# What sounds secret, wherever it stands in a name; whatever precedes it in there stays as it is.
_NAME: Final = r"(?:token|secret|passw(?:or)?d|pwd|passphrase|api[_-]?key|access[_-]?key|session(?:_?id)?)[\w-]{0,64}"
# What is hidden behind a path: a query, a fragment, or parameters, also where their first character is escaped.
_QUERY: Final = r"(?:[?#]|%3f|%23|(?:;|%3b)[\w.-]{1,64}(?:=|%3d))"
# Each looks at a text once: paths that clients choose are long, and none of them makes a look long (ReDoS). So a repetition is
# bounded, or possessive and the rest of its pattern optional.
_SECRETS: Final[tuple[tuple[re.Pattern[str], str], ...]] = (
    # A field of a head, in any text.
    (
        re.compile(
            r"(?i)\b((?:proxy-)?authorization|(?:set-)?cookie2?|x-[\w-]{0,64}?(?:token|key|secret)[\w-]{0,64})"
            r"\s{0,8}[:=]\s{0,8}.*"
        ),
        rf"\1: {HIDDEN}",
    ),
    (re.compile(r"(?i)\b(bearer|basic|digest|negotiate)\s+[\w.~+/=-]{4,}"), rf"\1 {HIDDEN}"),
    # What was assigned to a name that sounds secret.
    (re.compile(rf"(?i)({_NAME})\s{{0,8}}(?:[=:]|%3d|%3a)\s{{0,8}}\S+"), rf"\1={HIDDEN}"),
    # What stands behind such a word, and is no word.
    (
        re.compile(rf"(?i)({_NAME})(\s{{1,8}}(?:is\s{{1,8}})?|/)(?=[^\s/]{{6}})(?=[^\s/]*[\d+=])[^\s/]+"),
        rf"\1\2{HIDDEN}",
    ),
    (re.compile(r"\beyJ[\w-]{5,}\.[\w-]{5,}\.[\w-]*"), HIDDEN),
)
# Who logs in by a URL: up to the last @ of its authority.
_LOGIN: Final = re.compile(r"(?i)(?<![a-z0-9+.-])([a-z][a-z0-9+.-]{0,32}://)[^/\s]*@")
_PATH: Final = re.compile(
    rf"""
    ( / (?: [^\s?\#;%"“”] | (?! {_QUERY} ) [;%] )*+
    | (?<![a-z0-9.-]) [a-z0-9-]++ (?: \.[a-z0-9-]++ )++ )
    ( {_QUERY} [^\s"“”]* )?
    """,
    re.VERBOSE | re.IGNORECASE,
)


def _without_query(text: str) -> str:
    """A text without the queries in it, whatever they are behind."""
    return _PATH.sub(lambda found: f"{found[1]}?{HIDDEN}" if found[2] else found[1], text)


def without_secrets(value: Any, key: str = "") -> Any:
    """An answer without queries, cookies, Authorization and secrets, by its keys and in all of its texts."""
    if (key == "query" or _SECRET_KEY.search(key)) and not isinstance(value, bool | None):
        return HIDDEN
    if isinstance(value, dict):
        if _SECRET_KEY.search(str(value.get("key") or value.get("name") or "")) and "value" in value:
            value = value | {"value": HIDDEN}
        return {name: without_secrets(one, str(name)) for name, one in value.items()}
    if isinstance(value, list):
        return [without_secrets(one, key) for one in value]
    if isinstance(value, str):
        value = _without_query(_LOGIN.sub(rf"\1{HIDDEN}@", value))
        for pattern, instead in _SECRETS:
            value = pattern.sub(instead, value)
    return value


# What names a machine or a place on it, wherever it stands.
_NAMES: Final = re.compile(
    r"""
    (?P<url> (?<=://) [^\s\"'“”?#,;)]+ )
  | (?P<ip> (?<![\w:.]) (?=[0-9a-f:.]*:[0-9a-f]*:) [0-9a-f:]{2,}(?:\d+\.\d+\.\d+\.\d+)?(?:%\w+)? (?![\w:])
          | (?<![\d.]) (?:\d{1,3}\.){3}\d{1,3} (?![\d.]) )
  | (?P<file> (?<![\w.@/-]) [\w-]+\.(?:toml|py|log|json|pem|conf)\b )
  | (?P<host> (?<![\w.@/-]) (?:\*\.)? (?:[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?\.)+ [a-z][a-z0-9-]*[a-z0-9] (?=[:/\s"'”,;)\]]|$)
            | (?<![\w./-]) [a-z][a-z0-9-]* (?=:\d{2,5}\b) )
  | (?P<path> (?<![\w/]) /[\w.@+-]+ (?:/[\w.@+~-]+)* )
    """,
    re.VERBOSE | re.IGNORECASE,
)
# Keys whose whole value names somebody or some machine.
_WHO: Final = {
    "actor": "who",
    "loaded_by": "who",
    "client": "client",
    "peer": "client",
    "host": "host",
    "names": "host",
    "server_name": "host",
    "issuer": "issuer",
    "client_subject": "subject",
    "fingerprint": "fingerprint",
    "client_fingerprint": "fingerprint",
    "authority": "host",
    "client_cn": "subject",
    "unique_id": "proxy-id",
    "aws_vpce_id": "endpoint",
}
# Of these what is said there is told elsewhere too, in texts of ours.
_SPOKEN_OF: Final = ("who", "subject", "fingerprint", "proxy-id", "endpoint")
# What stands there and is nobody.
_NOBODY: Final = {"", "start", "SIGHUP", "watch"}
# Keys whose value is a word of ours.
_OURS: Final = {"key", "kind", "state", "level", "outcome", "method", "version", "build", "etag", "policy", "lbctl"}


def _short(value: str, key: str) -> str:
    """What somebody is called elsewhere too."""
    return short_actor(value) if _WHO[key] == "who" else value


def _as_a_word(text: str) -> str:
    return rf"(?<!\w){re.escape(text)}(?!\w)"


class Anonymous:
    """The same name for the same thing everywhere: `ip-1`, `host-2`, `path-3`. `people` and other words to replace wherever they
    stand are those that the keys of the dump name.
    """

    def __init__(self, dump: Any = None) -> None:
        self._names: dict[tuple[str, str], str] = {}
        self._counts: dict[str, count[int]] = {}
        self._words: dict[str, str] = {}
        self._collect(dump, "")
        words = sorted(self._words, key=len, reverse=True)
        self._everywhere = re.compile("|".join(map(_as_a_word, words))) if words else None

    def _collect(self, value: Any, key: str) -> None:
        """Find whose names stand in some of the values."""
        if isinstance(value, dict):
            for name, one in value.items():
                self._collect(one, str(name))
        elif isinstance(value, list):
            for one in value:
                self._collect(one, key)
        elif isinstance(value, str) and _WHO.get(key) in _SPOKEN_OF and value not in _NOBODY:
            self._words[_short(value, key)] = _WHO[key]

    def hide(self, word: str, kind: str) -> None:
        """Replace a word wherever it stands as one."""
        self._words[word] = kind
        pattern = _as_a_word(word)
        self._everywhere = re.compile(f"{self._everywhere.pattern}|{pattern}" if self._everywhere else pattern)

    def of(self, kind: str, text: str) -> str:
        """What stands for a text."""
        known = self._names.get((kind, text.lower()))
        if known is None:
            known = f"{kind}-{next(self._counts.setdefault(kind, count(1)))}"
            self._names[kind, text.lower()] = known
        return known

    def all_of(self, value: Any, key: str = "") -> Any:
        """An answer without addresses, names of machines and people, paths, and texts that people have written."""
        if isinstance(value, dict) and key == "labels":
            return {self.of("label", str(name)): self.of("label", str(one)) for name, one in value.items()}
        if isinstance(value, dict):
            return {self._text(str(name)): self.all_of(one, str(name)) for name, one in value.items()}
        if isinstance(value, list):
            return [self.all_of(one, key) for one in value]
        if not isinstance(value, str) or key in _OURS:
            return value
        if key in _WHO and value not in _NOBODY:
            return self.of(_WHO[key], _short(value, key))
        return self._text(value)

    def _text(self, text: str) -> str:
        text = re.sub(r"“[^”]*”", "“…”", text)
        if self._everywhere is not None:
            text = self._everywhere.sub(lambda found: self.of(self._words[found[0]], found[0]), text)
        return _NAMES.sub(self._named, text)

    def _named(self, found: re.Match[str]) -> str:
        kind = str(found.lastgroup)
        return found[0] if kind == "file" else self.of(kind, found[0])


def anonymous(dump: dict[str, Any]) -> dict[str, Any]:
    """A dump without names of machines and people. What an operator has written stands as `“…”`, and reasons are left out."""
    names = Anonymous(dump)
    if name := text_of(dump.get("status") or {}, "name"):
        names.hide(name, "name")
    told: dict[str, Any] = names.all_of(_without_words(dump))
    return told


def _without_words(value: Any) -> Any:
    """Without what people have written: the reasons of runtime changes, which stand beside who made them."""
    if isinstance(value, dict):
        said = {"reason": "…"} if value.get("reason") and "actor" in value else {}
        return {name: _without_words(one) for name, one in (value | said).items()}
    return [_without_words(one) for one in value] if isinstance(value, list) else value


def run(session: Session, arguments: Namespace) -> int:
    """Write the dump to a file, or to stdout where that is a pipe."""
    dump: dict[str, Any] = {"lbctl": __version__, "made_at": session.clock.time()}
    for key, path in _PARTS.items():
        try:
            dump[key] = session.api.get(path)
        except Failure as failure:
            # A daemon that lacks a part still gives the others; one that is not there gives none.
            if failure.status == Status.NOT_REACHED and key == "status":
                raise
            dump[key] = {"failed": failure.sentence}
    try:
        dump["metrics"] = session.api.text("/metrics").splitlines()
    except Failure as failure:
        dump["metrics"] = [f"# {failure.sentence}"]
    dump = without_secrets(dump)
    if arguments.anonymous:
        dump = anonymous(dump)
    return _write(session, arguments, dump)


def _write(session: Session, arguments: Namespace, dump: dict[str, Any]) -> int:
    console, name = session.console, arguments.file
    if name is None and console.terminal:
        moment = time_of_day(session.clock.time()).replace(":", "")
        name = (
            f"support-dump-{text_of(dump['status'], 'name', 'lb') if not arguments.anonymous else 'lb'}-{moment}.json"
        )
        name = re.sub(r"[^\w.-]", "_", name)
    if name in (None, "-"):
        console.say_json(dump)
        return Status.DONE
    text = json.dumps(dump, indent=1, ensure_ascii=False)
    try:
        with open(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(f"{text}\n")
    except OSError as error:
        raise Failure(Status.REFUSED, f"{name}: {error.strerror or error}") from None
    console.say(
        f"{name}: {len(text) // 1024 + 1} KiB, without queries, cookies and secrets; look at it before you send it"
    )
    return Status.DONE


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "file", nargs="?", metavar="FILE", help="a new file; stdout in a pipe, a name of its own on a terminal"
    )
    parser.add_argument(
        "--anonymous", action="store_true", help="also without addresses, names of machines and people, paths"
    )


VERBS = (Verb("support-dump", "support-dump [FILE]", "one file for a bug report, without secrets", _arguments, run),)
