"""Agents: what a backend says of itself in answer to checks, in the words of HAProxy's agent-check, and what holds of that.

It is a voice of its own, beside what the operator wants, what checks find and what traffic meets: it takes a backend out that
those would use, and brings none back that one of them has taken out.
"""

import re
from typing import Final

# A line that is longer is none of an agent's. HAProxy takes what fits into its buffer, 16 KiB.
MOST_BYTES: Final = 1024
_MOST_COMMENT: Final = 200
# HAProxy bounds a weight by percentage so (`server_parse_weight_change_request`).
_MOST_PERCENT: Final = 25600
_MOST_WEIGHT: Final = 256
_MOST_LIMIT: Final = 1_000_000
# HAProxy 2.6, `tcpcheck_agent_expect_reply`: words are parted by these, and a comment begins where a word would.
_WORD: Final = re.compile(r"[^ \t,]+")
_PERCENT: Final = re.compile("([0-9]{1,9})%")
_WEIGHT: Final = re.compile("[0-9]{1,9}")
_LIMIT: Final = re.compile("maxconn:([0-9]{1,9})")
_HEALTHS: Final = ("up", "down", "fail", "stopped")
_WISHES: Final = ("ready", "drain", "maint")

# What takes a backend out by its agent, or by a status that means busy, and what it is then, in an operator's words.
STATES: Final = {
    "drain": "drained by its agent",
    "maint": "in maintenance by its agent",
    "down": "down by its agent",
    "fail": "down by its agent",
    "stopped": "down by its agent",
    "busy": "busy",
}
# The same for counts, in one word.
LABELS: Final = {
    "drain": "agent_drain",
    "maint": "agent_maint",
    "down": "agent_down",
    "fail": "agent_down",
    "stopped": "agent_down",
    "busy": "busy",
}


class Said:
    """What an agent says in one answer: `health` is up, down, fail or stopped, `wish` ready, drain or maint, empty for nothing said;
    `percent` of the configured weight, or a `weight` in its place, `limit` how many requests it wants in flight, 0 for any number;
    -1 for nothing said. `comment` is what stands behind the sharp, `garbled` the first word that is none of these.
    """

    __slots__ = ("comment", "garbled", "health", "limit", "percent", "weight", "wish")

    def __init__(self) -> None:
        self.health: str = ""
        self.wish: str = ""
        self.percent: int = -1
        self.weight: int = -1
        self.limit: int = -1
        self.comment: str = ""
        self.garbled: str = ""

    def _take(self, word: str) -> bool:
        """Take one word; the last of a kind holds. Whether it was one."""
        if word in _HEALTHS:
            self.health = word
        elif word in _WISHES:
            self.wish = word
        elif found := _PERCENT.fullmatch(word):
            self.percent, self.weight = min(int(found[1]), _MOST_PERCENT), -1
        elif _WEIGHT.fullmatch(word) and int(word) <= _MOST_WEIGHT:
            self.percent, self.weight = -1, int(word)
        elif (found := _LIMIT.fullmatch(word)) and int(found[1]) <= _MOST_LIMIT:
            self.limit = int(found[1])
        else:
            return False
        return True

    @property
    def words(self) -> str:
        """What it says of its state, less its limit."""
        return " ".join(word for word in (self.health, self.wish, _weight_of(self.percent, self.weight)) if word)


def _weight_of(percent: int, weight: int) -> str:
    return f"{percent}%" if percent >= 0 else str(weight) if weight >= 0 else ""


def line_in(received: bytes) -> bytes | None:
    """The first line of what has come, without its end, a CR or LF; None while that has not come, or is too far."""
    ends = [at for at in (received.find(b"\r"), received.find(b"\n")) if at >= 0]
    return received[: min(ends)] if ends and min(ends) <= MOST_BYTES else None


def read_agent(line: bytes) -> Said:
    """Read an agent's line, without its end: words parted by spaces, tabs or commas, in any case and order, and a comment behind
    a sharp. Nothing is an error: what is no word is `garbled`.
    """
    said, text = Said(), _shown(line[:MOST_BYTES])
    for word in _WORD.finditer(text):
        if word[0].startswith("#"):
            said.comment = text[word.start() + 1 :].strip()[:_MOST_COMMENT]
            break
        if not said._take(word[0].lower()) and not said.garbled:
            said.garbled = word[0][:_MOST_COMMENT]
    return said


def _shown(line: bytes) -> str:
    """A line as text that can be logged: control characters and bytes that are no ASCII stand as question marks, tabs as they are."""
    return "".join(chr(byte) if 32 <= byte < 127 or byte == 9 else "?" for byte in line)


class Agent:
    """What holds of what a backend's agent has said, until it says otherwise, is not heard `fall` times in a row, or nobody asks any
    more. `busy`: the last check was answered by a status that means so.

    `wish` is drain, maint or empty, `down` down, fail, stopped or empty. `away`: it gets no new requests by that. `percent`, `weight`
    and `limit` as in `Said`. `garbled` counts answers with words that are none.
    """

    __slots__ = ("away", "busy", "comment", "down", "garbled", "limit", "percent", "unheard", "weight", "wish")

    def __init__(self) -> None:
        self.wish: str = ""
        self.down: str = ""
        self.busy: bool = False
        self.away: bool = False
        self.percent: int = -1
        self.weight: int = -1
        self.limit: int = 0
        self.comment: str = ""
        self.garbled: int = 0
        self.unheard: int = 0

    def hear(self, said: Said) -> None:
        """Take what it says. Of what it does not speak, that holds which it said before."""
        self.unheard = 0
        if said.wish:
            self.wish = "" if said.wish == "ready" else said.wish
        if said.health:
            self.down = "" if said.health == "up" else said.health
        if said.percent >= 0 or said.weight >= 0:
            self.percent, self.weight = said.percent, said.weight
        if said.limit >= 0:
            self.limit = said.limit
        if said.wish or said.health:
            self.comment = said.comment
        self._follow()

    def hear_busy(self, *, busy: bool) -> None:
        """Take whether a check was answered by a status that means busy."""
        self.busy = busy
        self._follow()

    def forget(self) -> None:
        """Nothing holds any more of what it has said; whether it is busy is another matter."""
        self.wish = self.down = self.comment = ""
        self.percent = self.weight = -1
        self.limit = self.unheard = 0
        self._follow()

    def _follow(self) -> None:
        self.away = bool(self.down) or self.withdrawn

    @property
    def word(self) -> str:
        """What takes it out, the gravest first: a key of `STATES`; empty for nothing."""
        if self.down or self.wish:
            return self.down or self.wish
        return "busy" if self.busy else "drain" if self._weightless else ""

    @property
    def withdrawn(self) -> bool:
        """Whether it is well, and wants no new requests: what panic does not use."""
        return self.busy or bool(self.wish) or self._weightless

    @property
    def _weightless(self) -> bool:
        """Whether it wants no weight: that is drain by another word (HAProxy calls it so too), and no other weight."""
        return self.percent == 0 or self.weight == 0

    @property
    def speaks(self) -> bool:
        """Whether anything holds of what it has said."""
        return bool(self.wish or self.down or self.limit) or self.percent >= 0 or self.weight >= 0

    def part_of(self, configured: int) -> float:
        """Which part it wants of a weight that is configured. Its own can raise no weight over 256, nor one that is 0."""
        if not configured or self._weightless:
            return 1.0
        most = _MOST_WEIGHT / configured
        if self.weight >= 0:
            return min(self.weight / configured, most)
        return min(self.percent / 100, most) if self.percent >= 0 else 1.0

    @property
    def words(self) -> str:
        """What holds, as it would say it: `drain 50% maxconn:20`; empty for nothing."""
        weight = _weight_of(self.percent, self.weight)
        limit = f"maxconn:{self.limit}" if self.limit else ""
        return " ".join(word for word in (self.down, self.wish, "busy" if self.busy else "", weight, limit) if word)

    def __repr__(self) -> str:
        return f"<Agent {self.words or 'silent'}>"
