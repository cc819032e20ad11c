"""One request at a time, to see that a contender does what it is measured for."""

import http.client
import socket
import ssl
import subprocess
import time
from collections.abc import Callable

from yardstick.scenarios import Scenario


def until(true: Callable[[], bool], seconds: float, problem: Callable[[], str]) -> None:
    """Wait for something to become true; RuntimeError with the problem if it does not."""
    ends_at = time.monotonic() + seconds
    while not true():
        if time.monotonic() > ends_at:
            raise RuntimeError(problem())
        time.sleep(0.01)


def listening(address: str, port: int) -> bool:
    """Somebody accepts there."""
    with socket.socket() as sock:
        return sock.connect_ex((address, port)) == 0


def fault(address: str, port: int, scenario: Scenario) -> str | None:
    """What is wrong with the answer to one request of a scenario; None: nothing."""
    sent = b"0123456789abcdef" * (scenario.up_bytes // 16)
    if scenario.streams:
        return fault_over_http2(address, port, scenario, sent)
    chunks = (sent[at : at + 16384] for at in range(0, len(sent), 16384))
    if scenario.tls:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # it has signed its certificate itself
        connection = http.client.HTTPSConnection(address, port, timeout=20, context=context)
    else:
        connection = http.client.HTTPConnection(address, port, timeout=20)
    try:
        if sent and scenario.chunked:
            connection.request("POST", scenario.path, chunks, encode_chunked=True)
        else:
            connection.request("POST" if sent else "GET", scenario.path, sent or None)
        answer = connection.getresponse()
        body = answer.read()
    except (OSError, http.client.HTTPException) as error:
        return f"{type(error).__name__}: {error}"
    finally:
        connection.close()
    return fault_of(scenario, answer.status, body)


def fault_over_http2(address: str, port: int, scenario: Scenario, sent: bytes) -> str | None:
    """The same by curl, which speaks HTTP/2 and says whether the answer came so."""
    words = ["curl", "--silent", "--insecure", "--max-time", "20", "--write-out", "\n%{http_version} %{http_code}"]
    words += ["--data-binary", "@-"] if sent else []
    words.append("--http2" if scenario.tls else "--http2-prior-knowledge")
    url = f"{'https' if scenario.tls else 'http'}://{address}:{port}{scenario.path}"
    done = subprocess.run([*words, url], input=sent, capture_output=True, timeout=30, check=False)
    body, _, line = done.stdout.rpartition(b"\n")
    version, _, status = line.partition(b" ")
    if done.returncode or version != b"2":
        return f"curl: {done.returncode}, HTTP/{version.decode()}"
    return fault_of(scenario, int(status), body)


def fault_of(scenario: Scenario, status: int, body: bytes) -> str | None:
    """What is wrong with an answer; None: nothing."""
    if status != 200:
        return f"status {status}"
    if scenario.up_bytes:
        # The backend answers how much it has read, head and framing included.
        read = int(body) if body.isdigit() else 0
        return (
            None if 0 < read - scenario.up_bytes < 2000 + scenario.up_bytes // 100 else f"the backend read {read} bytes"
        )
    wanted = b"0123456789abcdef" * (scenario.down_bytes // 16) if scenario.down_bytes > 6 else b"hello\n"
    return None if body == wanted else f"a body of {len(body)} bytes that is not the one"
