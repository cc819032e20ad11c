"""proxy.py as a reverse proxy: proxy_py.py ADDRESS PORT BACKEND..."""

import random
import sys

import proxy
from proxy.http import Url
from proxy.http.parser import HttpParser
from proxy.http.server import ReverseProxyBasePlugin

ADDRESS, PORT, *BACKENDS = sys.argv[1:]
# A thread for each connection: without threads its reverse proxy fails at the second request of a connection.
WORDS = """--num-acceptors 1 --num-workers 1 --local-executor 0 --threaded --backlog 4096 --log-level ERROR
    --enable-reverse-proxy --client-recvbuf-size 65536 --server-recvbuf-size 65536 --timeout 3600"""


class Reverse(ReverseProxyBasePlugin):
    """By chance over the backends, as its own example does."""

    def routes(self) -> list[str]:
        """Every target."""
        return [r"/.*"]

    def before_routing(self, request: HttpParser) -> HttpParser:
        """Say who asks."""
        request.add_header(b"X-Forwarded-For", self.client.addr[0].encode())
        return request

    def handle_route(self, request: HttpParser, pattern: object) -> Url:
        """Somebody, for the same target."""
        url = Url.from_bytes(b"http://" + random.choice(BACKENDS).encode())
        url.remainder = request.path
        return url


if __name__ == "__main__":
    sys.argv[1:] = ["--hostname", ADDRESS, "--port", PORT, *WORDS.split()]
    proxy.main(plugins=[Reverse])
