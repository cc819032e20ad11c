"""What docs/access-log.md says: its tables are those of the code, its lines are made, its configurations can be read."""

import json
import re
import tomllib
from pathlib import Path

import pytest
from house import House

from twisted_lb.access_log import destinations, writer
from twisted_lb.access_log.termination import BY_PHASE, STATES, termination
from twisted_lb.config import LoadBalancerConfig, LogConfig
from twisted_lb.config.log_format import FORMATS, LOG_PLACEHOLDERS
from twisted_lb.core.outcome import STALLED, Outcome, Refusal
from twisted_lb.core.record import Record
from twisted_lb.testing import RESET, Wait, response

DOC = (Path(__file__).parent.parent / "docs" / "access-log.md").read_text()
TOML = re.findall(r"```toml\n(.*?)```", DOC, re.DOTALL)
LINES = re.findall(r"^```\n(127\.0\.0\.1.*)\n```$", DOC, re.MULTILINE)


def section(title: str) -> str:
    return DOC.partition(f" {title}\n")[2].partition("\n#")[0]


def states() -> list[str]:
    """The table of termination states, as it is to be in the document."""
    by_state: dict[str, list[str]] = {}
    for one, state in STATES.items():
        by_state.setdefault(state, []).append(one.name)
    return [f"| {', '.join(names)} | `{state}` |" for state, names in by_state.items()]


def test_the_table_of_termination_states_is_the_code_s():
    assert [line for line in section("Termination states").splitlines() if line.startswith("| ")][1:] == states()


@pytest.mark.parametrize(
    ("ended_by", "told"),
    [
        (Outcome.CLIENT_FAULT, {"status": 408}),
        (Outcome.CUT_SHORT, {"detail": STALLED}),
        (Refusal.NO_BACKEND, {"queued_s": 1.0}),
    ],
)
def test_what_is_told_beside_that_table_is_so(ended_by, told):
    record = Record(0.0)
    record.ended_by = ended_by
    for name, value in told.items():
        setattr(record, name, value)
    state = termination(record)
    shown = state[0] + (BY_PHASE if BY_PHASE in STATES[ended_by] else state[1])
    assert f"- {ended_by.name} is `{shown}` " in DOC


def test_the_letters_are_explained():
    explained = section("Termination states")
    for letter in {letter for state in STATES.values() for letter in state[0]} | {"c"}:
        assert re.search(rf"[:;] `{re.escape(letter)}` ", explained), letter


@pytest.mark.parametrize("text", TOML)
def test_a_configuration_can_be_read(text):
    values = tomllib.loads(text)
    assert LoadBalancerConfig.model_validate(values if "pools" in values else {"backends": ["a:1"], **values}).log.file


def test_every_format_and_every_placeholder_is_there():
    assert re.findall(r"^### `(\w+)`$", DOC, re.MULTILINE) == list(FORMATS)
    table = section("A template").partition("| placeholder |")[2]
    assert re.findall(r"`\{(\w+)\}`", table.partition("\n\n")[0]) == sorted(
        LOG_PLACEHOLDERS, key=lambda name: table.index(f"`{{{name}}}`")
    )


def test_the_lines_have_the_form_that_lines_have():
    from access_log.test_haproxy import LINE

    haproxy, combined = LINES
    assert LINE.fullmatch(f"{haproxy}\n".encode())
    assert re.fullmatch(r'\S+ - - \[[^]]+\] "[^"]*" \d{3} \d+ "[^"]*" "[^"]*" \d+', combined)


def test_every_key_of_json_is_there(build):
    house: House = build(
        "a:80",
        "b:80",
        log={"file": "stdout", "format": "json"},
        forwarding={"traceparent": "make", "trusted_proxies": ["127.0.0.1"]},
        queue={"no_backend_s": 5.0},
    )
    house.backend("a:80", [[RESET], response(b"", 500)])
    house.backend("b:80", [[Wait(1), response(b"x")], response(b"", 500)])
    head = b"GET /x?y HTTP/1.1\r\nHost: x\r\nUser-Agent: a\r\nReferer: b\r\nX-Request-ID: c\r\n"
    house.ask(head + b"\r\n")
    house.ask(head + b"X-Forwarded-For: 192.0.2.1\r\n\r\n")
    house.wait(5)
    lines = [json.loads(line) for line in house.balanced.log_lines]
    table = section("`json`")
    told = set(re.findall(r"`([@a-z_]+(?:\.[a-z_]+)*)`", table)) | {
        f"lb.times.{name}" for name in ("queue", "connect", "head", "first_byte")
    }
    assert {key for line in lines for key in line} <= told
    attempt = next(line["lb.attempts"][0] for line in lines if "lb.attempts" in line)
    assert set(attempt) == {"backend", "outcome", "why", "began", "connected", "ended"}


def test_its_numbers_are_those_of_the_code():
    assert f"At most {writer.MOST_BYTES // 2**20} MiB wait" in DOC
    assert f"more than {writer.SLOW_S * 1000:g} ms" in DOC
    assert f"tried again every {writer._RETRY_S * 1000:g} ms" in DOC
    assert f"for {writer._LAST_S:g} s at most" in DOC
    assert f"when {writer._BATCH_BYTES // 1024} KiB are together" in DOC
    assert f"{destinations._DATAGRAM_BYTES:,} bytes at most" in DOC
    assert f"mode {destinations._MODE:04o}" in DOC
    assert f"`slow_s` ({LogConfig().slow_s:g} s)" in DOC
