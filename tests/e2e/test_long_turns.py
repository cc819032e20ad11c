"""A turn of the reactor that takes long, in a real process: the log says where it was."""

import pytest
from ports import free_port
from processes import TERM, Running, stage

HOLDING = """
import os
import time

from twisted.application.service import Application
from twisted.internet import reactor
from twisted_lb.config import LoadBalancerConfig
from twisted_lb.service import LoadBalancerService


def hold_everybody():
    while not os.path.exists("go-on"):
        time.sleep(0.05)
    print("it is over")


application = Application("holding")
config = LoadBalancerConfig.model_validate({{"listen": {{"port": {port}}}, "backends": ["127.0.0.1:1"]}})
LoadBalancerService(config, whole_process=True).setServiceParent(application)
reactor.callWhenRunning(lambda: reactor.callLater(1.0, hold_everybody))
"""


@pytest.fixture
def world(tmp_path):
    with stage(tmp_path) as one:
        yield one


def test_who_holds_the_process_for_long_is_named_while_it_lasts(world):
    world.folder.mkdir(parents=True, exist_ok=True)
    (world.folder / "holding.tac").write_text(HOLDING.format(port=free_port()))
    process: Running = world.twistd("holding", "--python", "holding.tac")
    process.wait_for(r"nothing has moved for \d+\.\d\d s: .*hold_everybody at \S*holding\.tac:\d+")
    (world.folder / "go-on").touch()
    process.wait_for("it is over")
    process.signal(TERM)
    process.wait()
