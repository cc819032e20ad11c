"""Requests of our own over HTTP, that others answer whom nobody balances: registries, collectors of traces."""

from typing import Any, Final, Protocol

from twisted.internet.defer import Deferred, succeed
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.interfaces import IConsumer, IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.python.failure import Failure
from twisted.web.client import URI, Agent, BrowserLikePolicyForHTTPS
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgentEndpointFactory, IBodyProducer, IResponse
from zope.interface import implementer

# An answer whose head is longer is given up; one read more may have come.
HEAD_BYTES: Final = 65536
NO_TLS: Final = 'https needs pyOpenSSL: pip install "twisted[tls]"'


class Client(Protocol):
    """An HTTP client, as Twisted's IAgent, that can cut what it has open."""

    def request(
        self, method: bytes, uri: bytes, headers: Headers, bodyProducer: IBodyProducer | None = None
    ) -> Deferred[IResponse]:
        """See IAgent."""

    def hang_up(self) -> None:
        """Abort all connections."""


@implementer(IBodyProducer)
class Whole:
    """A body that is there as a whole."""

    def __init__(self, content: bytes) -> None:
        self.length: Final = len(content)
        self._content: Final = content

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        """See IBodyProducer."""
        consumer.write(self._content)
        return succeed(None)

    def stopProducing(self) -> None:
        """See IProducer."""

    def pauseProducing(self) -> None:
        """See IPushProducer."""

    def resumeProducing(self) -> None:
        """See IPushProducer."""


class _Head:
    """The head of an answer, while it comes: one that is too long ends the connection. Twisted bounds each line, and neither their
    number nor that of interim answers.
    """

    def __init__(self, protocol: Any) -> None:
        self._protocol: Final = protocol
        self._receive: Final = protocol.dataReceived
        self._ask: Final = protocol.request
        self._left: int = HEAD_BYTES
        protocol.dataReceived, protocol.request = self._received, self._asked

    def _asked(self, request: object) -> "Deferred[IResponse]":
        asking: Deferred[IResponse] = self._ask(request)
        return asking.addCallbacks(self._complete, self._failed)

    def _received(self, data: bytes) -> None:
        if self._left <= 0:
            self._protocol.transport.abortConnection()
        else:
            self._left -= len(data)
            self._receive(data)

    def _complete(self, response: IResponse) -> IResponse:
        self._protocol.dataReceived = self._receive
        return response

    def _failed(self, failure: Failure) -> Failure:
        if self._left <= 0:
            raise ValueError(f"the head of the answer has more than {HEAD_BYTES} bytes")
        return failure


@implementer(IStreamClientEndpoint)
class _Watched:
    """An endpoint whose connections are noted."""

    def __init__(self, endpoint: Any, noted: list[Any]) -> None:
        self._endpoint: Final = endpoint
        self._noted: Final = noted

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        factory: Any = protocolFactory
        factory.noisy = False  # else Twisted logs that it starts and stops, of each request
        connecting: Deferred[IProtocol] = self._endpoint.connect(factory)
        return connecting.addCallback(self._note)

    def _note(self, protocol: Any) -> Any:
        self._noted.append(protocol)
        _Head(protocol)
        return protocol


@implementer(IAgentEndpointFactory)
class OneOffClient:
    """Twisted's Agent with a connection of its own for each request, all of which can be aborted: Twisted closes one in order,
    which over TLS needs the server. Certificates are checked by what the system trusts.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor: Final = reactor
        self._agent: Final = Agent.usingEndpointFactory(reactor, self)
        self._open: list[Any] = []

    def request(
        self, method: bytes, uri: bytes, headers: Headers, bodyProducer: IBodyProducer | None = None
    ) -> Deferred[IResponse]:
        """See Client."""
        asking: Deferred[IResponse] = self._agent.request(method, uri, headers, bodyProducer)
        return asking

    def hang_up(self) -> None:
        """See Client."""
        for protocol in self._open:
            if protocol.transport is not None:
                protocol.transport.abortConnection()
        self._open.clear()

    def endpointForURI(self, uri: URI) -> _Watched:
        """See IAgentEndpointFactory."""
        endpoint: Any = HostnameEndpoint(self._reactor, uri.host.decode("ascii"), uri.port)
        if uri.scheme == b"https":
            endpoint = wrapClientTLS(BrowserLikePolicyForHTTPS().creatorForNetloc(uri.host, uri.port), endpoint)
        return _Watched(endpoint, self._open)


def words_of(error: BaseException) -> str:
    """What went wrong with a request, in one line, without what Twisted wraps it in."""
    if isinstance(error, NotImplementedError):
        return NO_TLS
    reasons = getattr(error, "reasons", None)
    if not isinstance(reasons, list):
        return text_of(error)
    inner = [reason.value for reason in reasons if isinstance(reason, Failure) and reason.value is not None]
    return _tls_words(inner[0]) or text_of(inner[0]) if inner else type(error).__name__


def text_of(error: BaseException) -> str:
    """What went wrong, in one line: an exception's text, or its name where it has none."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text.removesuffix(".")


def _tls_words(error: BaseException) -> str:
    """What pyOpenSSL says: its errors hold a list of (library, function, reason). Empty for any other error."""
    found = error.args[0] if error.args else None
    if not isinstance(found, list):
        return ""
    return "TLS: " + ", ".join(str(one[-1]) for one in found if isinstance(one, tuple) and one)
