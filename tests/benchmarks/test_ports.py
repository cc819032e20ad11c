"""The ports that processes of tests get: one port, one owner, whoever else asks at the same time."""

import socket
import subprocess
import sys
from pathlib import Path

import ports
from ports import BLOCK, FIRST, PAST, free_port

DRAWS = 2 * BLOCK
FOLDER = str(Path(ports.__file__).parent)
PROGRAM = f"""
import sys
sys.path.insert(0, {FOLDER!r})
from ports import free_port
print(*(free_port() for _ in range({DRAWS})), flush=True)
input()
"""


def test_programs_that_live_at_the_same_time_share_no_port():
    pipe = subprocess.PIPE
    living = [subprocess.Popen([sys.executable, "-c", PROGRAM], stdin=pipe, stdout=pipe, text=True) for _ in range(3)]
    given = [free_port() for _ in range(DRAWS)]
    for program in living:
        given += map(int, program.stdout.readline().split())
    for program in living:
        program.communicate("\n")
    assert len(given) == len(set(given)) == 4 * DRAWS
    assert all(FIRST <= port < PAST for port in given)


def test_a_port_that_is_listened_on_is_left_out():
    port = free_port()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        assert not ports._is_free(port)
    assert ports._is_free(port)
