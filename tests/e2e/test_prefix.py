"""Servers that cache prompts behind a real balancer: each prompt is worked out once, whoever asks and however it is sent."""

import http.client
import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from ports import free_port
from processes import PATIENCE_S, Stage, listening, stage, until

ENGINE = Path(__file__).parent / "peers" / "prompt_engine.py"
TENANTS = [f"tenant {number}" for number in range(9)]
CONFIG = """
backends = [{}]
policy = "{}"
health_check = {{ interval_s = 0 }}
"""


@pytest.fixture
def world(tmp_path) -> Iterator[Stage]:
    with stage(tmp_path) as one:
        yield one


def engine(world: Stage, port: int) -> subprocess.Popen:
    process = subprocess.Popen([sys.executable, str(ENGINE), str(port)])
    world.others.append(process)
    until(lambda: listening(port), f"an engine on {port}")
    return process


class Front:
    """A balancer with this policy in front of three engines."""

    def __init__(self, world: Stage, policy: str) -> None:
        self.ports = [free_port() for _ in range(3)]
        self.engines = {port: engine(world, port) for port in self.ports}
        config = world.folder / "lb.toml"
        config.write_text(CONFIG.format(", ".join(f'"127.0.0.1:{port}"' for port in self.ports), policy))
        self.admin = free_port()
        self.running, self.port = world.balancer("--config", str(config), "--admin", f"127.0.0.1:{self.admin}")

    def ask(self, tenant: str, turn: int, *, pieces: int = 0) -> dict[str, int]:
        """A question of a tenant, whose prompts all begin alike; in so many chunks, or with its length."""
        messages = [
            {"role": "system", "content": f"You serve {tenant}. " * 200},
            {"role": "user", "content": f"{turn}?"},
        ]
        body = json.dumps({"model": "m", "temperature": turn / 100, "messages": messages}).encode()
        size = max(len(body) // pieces, 1) if pieces else 0
        chunks: bytes | Iterable[bytes] = (
            iter([body[at : at + size] for at in range(0, len(body), size)]) if pieces else body
        )
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        try:
            connection.request("POST", "/v1/chat/completions", chunks, encode_chunked=bool(pieces))
            answer = connection.getresponse()
            said = json.loads(answer.read())
            assert answer.status == 200
            assert said["body"] == len(body)
            return said
        finally:
            connection.close()

    def told(self, name: str) -> dict[str, float]:
        """A metric of prefixes, by its last label."""
        connection = http.client.HTTPConnection("127.0.0.1", self.admin, timeout=PATIENCE_S)
        connection.request("GET", "/metrics")
        lines = connection.getresponse().read().decode().splitlines()
        connection.close()
        found = [line.rpartition(" ") for line in lines if line.startswith(f"twisted_lb_{name}{{")]
        return {labels.rpartition('="')[2].rstrip('"}'): float(value) for labels, _, value in found}


def misses(answers: list[dict[str, int]]) -> int:
    """How many of them had less than half of their prompts cached."""
    return sum(2 * one["cached"] < one["bytes"] for one in answers)


def test_each_prompt_is_worked_out_once_and_by_load_alone_again_and_again(world):
    answers = {}
    for policy in ("prefix", "least"):
        front = Front(world, policy)
        answers[policy] = [
            front.ask(tenant, turn, pieces=(0, 1, 5)[turn % 3]) for turn in range(8) for tenant in TENANTS
        ]
        if policy == "prefix":
            assert front.told("prefix_requests_total") == {"nothing": 0, "whole": 72, "cut": 0, "encoded": 0}
            [matched] = front.told("prefix_blocks_matched_total").values()
            [blocks] = front.told("prefix_blocks_total").values()
            # Nine prompts were new, and all whole blocks of the others were there but those that the question is in.
            assert 0.75 < matched / blocks < 64 / 72
        front.running.end()
    assert misses(answers["prefix"]) == len(TENANTS)
    # Each of three engines meets nearly all of them: 27 would be all.
    assert misses(answers["least"]) > 2 * len(TENANTS)


def test_a_prompt_that_all_ask_for_at_once_is_spread_over_all_engines(world):
    front = Front(world, "prefix")
    with ThreadPoolExecutor(24) as clients:
        answers = list(clients.map(lambda turn: front.ask("the same", turn), range(240)))
    asked = {port: sum(one["port"] == port for one in answers) for port in front.ports}
    assert sum(asked.values()) == 240
    assert min(asked.values()) > 0
    assert misses(answers) <= 3


def test_an_engine_that_was_started_anew_is_not_taken_to_know_anything(world):
    front = Front(world, "prefix")
    homes = {tenant: front.ask(tenant, 0)["port"] for tenant in TENANTS}
    lost = homes[TENANTS[0]]
    front.engines[lost].kill()
    front.engines[lost].wait()
    moved = {tenant: front.ask(tenant, 1) for tenant in TENANTS}
    assert all(one["port"] != lost for one in moved.values())
    # Those of the others had theirs, and those that have moved are where they have been worked out by now.
    assert misses(list(moved.values())) == sum(port == lost for port in homes.values())
    engine(world, lost)
    front.running.wait_for("ejected")
    assert misses([front.ask(tenant, 2) for tenant in TENANTS]) <= 1  # one of them may be the trial
    assert misses([front.ask(tenant, 3) for tenant in TENANTS]) <= 1
