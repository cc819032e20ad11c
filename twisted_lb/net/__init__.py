"""The net moves bytes: the poller, the transports, and the path of one request through them.

What the compiled classes provide of Twisted's interfaces is declared here: Twisted asks (`IPushProducer(transport)`),
and a class that mypyc compiles cannot be decorated.
"""

from collections.abc import Callable

from twisted.internet.interfaces import (
    IConsumer,
    IHalfCloseableProtocol,
    IProtocol,
    IPushProducer,
    IReadDescriptor,
    ITransport,
)
from zope.interface import classImplements

from twisted_lb.net.foreign import Foreign
from twisted_lb.net.http1 import Http1
from twisted_lb.net.http1_upstream import Http1Upstream
from twisted_lb.net.poller import EpollPoller
from twisted_lb.net.transport import Transport

# Under a name of our own mypy-zope does not compare signatures: ours are narrower types of the same calls.
_declare: Callable[..., None] = classImplements

_declare(EpollPoller, IReadDescriptor)
_declare(Transport, ITransport, IConsumer, IPushProducer)
_declare(Foreign, IProtocol, IHalfCloseableProtocol)
_declare(Http1, IPushProducer)
_declare(Http1Upstream, IPushProducer)
