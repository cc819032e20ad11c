"""docs/tunnels.md says what the code does."""

import re
import tomllib
from pathlib import Path

from twisted_lb.config import LoadBalancerConfig
from twisted_lb.net.pipes import MOST_PIPES, PIPE_BYTES
from twisted_lb.net.relay import DELIVERY_S
from twisted_lb.net.transport import HIGH_WATER_BYTES, LEAST_SPLICE_BYTES, RECEIVE_BYTES
from twisted_lb.plan import plan_of

PAGE = (Path(__file__).parent.parent / "docs" / "tunnels.md").read_text()


def rules(config: LoadBalancerConfig):
    (route,) = plan_of(config).routes.values()
    return route.leads[0].rules


def test_the_file_has_the_times_that_hold_without_it():
    (text,) = re.findall(r"^```toml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    said, left_out = (
        rules(LoadBalancerConfig.model_validate(tomllib.loads(text))),
        rules(LoadBalancerConfig(backends=["a:80"])),
    )
    assert said.upgrades == {b"websocket", b"chess"}
    assert left_out.upgrades == {b"websocket"}
    for one in (said, left_out):
        assert (one.tunnel_idle_s, one.half_open_s) == (3600, 300)


def test_the_numbers_are_those_of_the_code():
    assert f"it has {DELIVERY_S:g} s to take" in PAGE
    assert f"some {(HIGH_WATER_BYTES + RECEIVE_BYTES) >> 10} KiB are held" in PAGE
    assert RECEIVE_BYTES == 1 << 18
    assert PIPE_BYTES == 1 << 20
    assert f"less than {LEAST_SPLICE_BYTES >> 10} KiB come" in PAGE
    assert f"At most {MOST_PIPES} pipes" in PAGE
