"""What Twisted brings: stock.py ADDRESS PORT BACKEND."""

import sys

from twisted.internet import reactor
from twisted.web.proxy import ReverseProxyResource
from twisted.web.server import Site

address, port, backend = sys.argv[1:]
host, backend_port = backend.split(":")
site = Site(ReverseProxyResource(host, int(backend_port), b""), timeout=3600)
reactor.listenTCP(int(port), site, interface=address, backlog=4096)
reactor.run()
