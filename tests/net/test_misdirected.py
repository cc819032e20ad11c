"""Misdirected requests (421): nobody reaches a host that asks for a client certificate on a connection that was made for another one."""

import ssl
from itertools import product

import pytest
from arriving import OK, Gateway, shake
from authority import Authority
from handshakes import client as client_context
from hellos import hello, server_name, vector, versions_of
from world import Peer, TlsPeer

from twisted_lb.core.outcome import Refusal
from twisted_lb.tls.serving import Serving
from twisted_lb.tls.settings import PolicySettings, TlsSettings

PUBLIC, GUARDED, BELOW, ASKED = "public.example", "guarded.example", "a.inner.example", "asked.example"
HOSTS = (PUBLIC, GUARDED, BELOW, ASKED)
VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


class House:
    """A listener with hosts of four policies, their clients, and one pool for what is guarded, one for all else."""

    def __init__(self, folder, *, guarded_by_default: bool = False) -> None:
        self.ours, self.others = Authority(folder / "ours"), Authority(folder / "others", "others")
        for one in (self.ours, self.others):
            one.folder.mkdir(exist_ok=True)
        everybody = PolicySettings()
        certified = PolicySettings(name="guarded", client_certificate="require", client_ca=self.ours.pem)
        asked = PolicySettings(name="asked", client_certificate="request", client_ca=self.ours.pem)
        hosts = [(GUARDED, certified), ("*.inner.example", certified), (ASKED, asked)]
        if guarded_by_default:
            hosts = [(PUBLIC, everybody)]
        serving = TlsSettings(
            (self.ours.certificate(*HOSTS),), certified if guarded_by_default else everybody, tuple(hosts)
        )
        guarded = {"host": [GUARDED, "*.inner.example"], "pool": "guarded"}
        self.gateway = Gateway(
            names=(),
            pools={"guarded": {"backends": ["guarded:80"]}, "open": {"backends": ["open:80"]}},
            routes=[guarded, {"pool": "open"}],
        )
        self.serving = Serving.of(serving)
        self.gateway.world.serve(self.serving)
        self.close = self.gateway.close

    def contexts(self, version: ssl.TLSVersion) -> dict[str, ssl.SSLContext]:
        """Clients without a certificate, with one of a stranger's authority, and with a good one."""
        names = {
            "none": None,
            "stranger's": self.others.leaf("client@others.example"),
            "good": self.ours.leaf("client@ours.example"),
        }
        return {
            name: client_context(leaf, minimum_version=version, maximum_version=version) for name, leaf in names.items()
        }

    def reached(self) -> list[tuple[str, bytes]]:
        """The requests that came to backends, which answer: the backend's name and the Host."""
        found = []
        self.gateway.run()
        for backend in self.gateway.world.backend_connections:
            if backend.sock.fileno() < 0:
                continue
            for request in backend.read().split(b"\r\n\r\n"):
                if request:
                    lines = request.split(b"\r\n")
                    host = next((line[6:] for line in lines if line.lower().startswith(b"host: ")), b"")
                    found.append((backend.backend.partition(":")[0], host))
                    backend.send(OK)
        return found


@pytest.fixture
def house(tmp_path):
    one = House(tmp_path)
    yield one
    one.close()


def tried(house: House, context: ssl.SSLContext, name: str | None, session=None) -> TlsPeer | None:
    """A client whose handshake is over, also as the server sees it; None where there is none."""
    done = house.gateway.done
    client = house.gateway.knock(context=context, name=name, session=session)
    try:
        shake(client)
    except ssl.SSLError:
        pass
    else:
        try:
            client.read()
        except ssl.SSLError:  # so TLS 1.3 tells of it
            pass
    if house.gateway.done == done:
        client.close()
        return None
    return client


@pytest.mark.parametrize("version", VERSIONS.values(), ids=VERSIONS)
def test_who_gets_in_and_who_gets_where(house, version):
    """Each client by each name, and on its connection each host: a guarded host is reached by a good certificate on its own name alone."""
    for (who, context), name in product(house.contexts(version).items(), [*HOSTS, None, "elsewhere.example"]):
        guarded = name in (GUARDED, BELOW)
        client = tried(house, context, name)
        allowed = who == "good" or (name not in (GUARDED, BELOW) and (name != ASKED or who == "none"))
        assert (client is not None) == allowed, (who, name)
        if client is None:
            continue
        for host in (*HOSTS, "elsewhere.example"):
            client.received = b""
            client.send(b"GET / HTTP/1.1\r\nHost: %b\r\n\r\n" % host.encode())
            reached = house.reached()
            answer = client.read()
            same = (host in (GUARDED, BELOW), host == ASKED) == (guarded, name == ASKED)
            pool = "guarded" if host in (GUARDED, BELOW) else "open"
            assert reached == ([(pool, host.encode())] if same else []), (who, name, host)
            assert answer.startswith(b"HTTP/1.1 200 " if same else b"HTTP/1.1 421 Misdirected Request\r\n")
        client.close()


TRICKS = {
    "upper case": b"GET / HTTP/1.1\r\nHost: GUARDED.example\r\n\r\n",
    "a dot": b"GET / HTTP/1.1\r\nHost: guarded.example.\r\n\r\n",
    "a port": b"GET / HTTP/1.1\r\nHost: guarded.example:443\r\n\r\n",
    "another port": b"GET / HTTP/1.1\r\nHost: guarded.example:80\r\n\r\n",
    "no port": b"GET / HTTP/1.1\r\nHost: guarded.example:\r\n\r\n",
    "a dot and a port": b"GET / HTTP/1.1\r\nHost: Guarded.Example.:443\r\n\r\n",
    "userinfo": b"GET / HTTP/1.1\r\nHost: public.example@guarded.example\r\n\r\n",
    "userinfo with a port": b"GET / HTTP/1.1\r\nHost: public.example:443@guarded.example\r\n\r\n",
    "brackets": b"GET / HTTP/1.1\r\nHost: [guarded.example]\r\n\r\n",
    "an address and more": b"GET / HTTP/1.1\r\nHost: [::1]guarded.example\r\n\r\n",
    "spaces": b"GET / HTTP/1.1\r\nHost:  \t guarded.example \t \r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\nHost: public.example\r\nHost: guarded.example\r\n\r\n",
    "two in one": b"GET / HTTP/1.1\r\nHost: public.example, guarded.example\r\n\r\n",
    "a fold": b"GET / HTTP/1.1\r\nHost: public.example\r\n guarded.example\r\n\r\n",
    "a bare CR": b"GET / HTTP/1.1\r\nHost: public.example\rHost: guarded.example\r\n\r\n",
    "a NUL": b"GET / HTTP/1.1\r\nHost: guarded.example\0.public.example\r\n\r\n",
    "a path": b"GET / HTTP/1.1\r\nHost: guarded.example/\r\n\r\n",
    "absolute": b"GET https://guarded.example/ HTTP/1.1\r\nHost: public.example\r\n\r\n",
    "absolute, of plain http": b"GET http://Guarded.example:80/ HTTP/1.1\r\nHost: public.example\r\n\r\n",
    "absolute, with userinfo": b"GET https://public.example@guarded.example/ HTTP/1.1\r\nHost: public.example\r\n\r\n",
    "absolute, the other way round": b"GET https://public.example/ HTTP/1.1\r\nHost: guarded.example\r\n\r\n",
    "absolute, HTTP/1.0": b"GET http://guarded.example/ HTTP/1.0\r\n\r\n",
    "HTTP/1.0": b"GET / HTTP/1.0\r\nHost: guarded.example\r\n\r\n",
    "asterisk": b"OPTIONS * HTTP/1.1\r\nHost: guarded.example\r\n\r\n",
    "connect": b"CONNECT guarded.example:443 HTTP/1.1\r\nHost: public.example\r\n\r\n",
    "a claim": b"GET / HTTP/1.1\r\nHost: public.example\r\nX-Forwarded-Host: guarded.example\r\nForwarded: host=guarded.example\r\n\r\n",
    "a body": b"POST / HTTP/1.1\r\nHost: guarded.example\r\nContent-Length: 5\r\n\r\nhello",
    "an upgrade": b"GET / HTTP/1.1\r\nHost: guarded.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    "behind a good one": b"GET / HTTP/1.1\r\nHost: public.example\r\n\r\nGET / HTTP/1.1\r\nHost: guarded.example\r\n\r\n",
    "a wide letter": "GET / HTTP/1.1\r\nHost: \uff47uarded.example\r\n\r\n".encode(),
    "a kelvin": "GET / HTTP/1.1\r\nHost: a.inner.example\r\nX: \u212a\r\n\r\n".encode(),
    "below": b"GET / HTTP/1.1\r\nHost: x.y.INNER.example.\r\n\r\n",
}


@pytest.mark.parametrize("trick", TRICKS)
def test_no_spelling_of_a_host_gets_past_its_policy(house, trick):
    client = tried(house, client_context(), PUBLIC)
    client.send(TRICKS[trick])
    reached = house.reached()
    for _ in range(3):
        reached += house.reached()
    assert all(pool == "open" for pool, _ in reached)
    assert not any(b"guarded" in host.lower() or b"inner" in host.lower() for _, host in reached)
    answer = client.read()
    harmless = trick in ("a claim", "behind a good one")
    assert bool(reached) == harmless
    assert answer.startswith(b"HTTP/1.1 200 " if harmless else (b"HTTP/1.1 421 ", b"HTTP/1.1 400 ", b"HTTP/1.1 501 "))
    if trick == "behind a good one":
        assert b"HTTP/1.1 421 " in answer


def test_a_misdirected_request_is_logged_and_its_connection_goes_on(house):
    client = tried(house, client_context(), PUBLIC)
    client.send(b"GET /secret HTTP/1.1\r\nHost: guarded.example\r\n\r\n")
    assert client.read().startswith(b"HTTP/1.1 421 ")
    [record] = house.gateway.records
    assert (record.status, record.local_reply, record.target) == (421, Refusal.MISDIRECTED, b"/secret")
    assert "guarded.example" in record.detail
    client.send(b"GET / HTTP/1.1\r\nHost: public.example\r\n\r\n")
    assert house.reached() == [("open", b"public.example")]


@pytest.mark.parametrize(
    "request_", [b"GET / HTTP/1.0\r\n\r\n", b"GET /admin HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"]
)
def test_what_names_no_host_is_of_the_policy_of_all_other_hosts(tmp_path, request_):
    """Where that is the one that asks for a certificate, a host that is open to everybody is no way around it."""
    house = House(tmp_path, guarded_by_default=True)
    client = tried(house, client_context(), PUBLIC)
    client.send(request_)
    assert house.reached() == []
    assert client.read().startswith(b"HTTP/1.1 421 ")
    certified = tried(house, house.contexts(VERSIONS["1.3"])["good"], None)
    certified.send(request_)
    assert [pool for pool, _ in house.reached()] == ["open"]
    house.close()


@pytest.mark.parametrize("version", VERSIONS.values(), ids=VERSIONS)
@pytest.mark.parametrize(("first", "then"), [(PUBLIC, GUARDED), (ASKED, GUARDED), (GUARDED, PUBLIC), (PUBLIC, ASKED)])
def test_a_session_of_one_policy_is_worth_nothing_in_another(house, version, first, then):
    who = "good" if first == GUARDED else "none"
    context = house.contexts(version)[who]
    client = tried(house, context, first)
    client.send(b"GET / HTTP/1.1\r\nHost: %b\r\n\r\n" % first.encode())
    house.reached()
    client.read()
    session = client.end.tls.session
    assert session is not None
    client.close()
    again = tried(house, context, first, session)
    assert again.end.tls.session_reused
    again.close()
    other = tried(house, context, then, session)
    if then == GUARDED:
        assert other is None
    else:
        assert not other.end.tls.session_reused
        other.send(b"GET / HTTP/1.1\r\nHost: %b\r\n\r\n" % GUARDED.encode())
        assert house.reached() == []
    if then != GUARDED:
        other.close()


X25519, P256 = b"\0\x1d", b"\0\x17"


@pytest.mark.parametrize(
    ("first", "second"), [(PUBLIC, GUARDED), (GUARDED, PUBLIC), (PUBLIC, ASKED), (PUBLIC, None), (GUARDED, None)]
)
def test_a_second_hello_that_names_another_policys_host_is_refused(house, first, second):
    """After a HelloRetryRequest; a name that has the same policy is the client's own affair."""
    known = [(10, vector(2, X25519)), (13, vector(2, b"\x04\x03\x08\x04")), versions_of(0x0304)]
    client = house.gateway.come().send(hello(server_name(first.encode()), *known, (51, vector(2, b""))))
    assert client.read()[:1] == b"\x16"
    names = [server_name(second.encode())] if second else []
    again = hello(*names, *known, (51, vector(2, X25519 + vector(2, bytes(range(1, 33))))))
    client.send(again)
    answer = client.read()
    if second is None and first == PUBLIC:
        assert answer[:1] in (b"\x14", b"\x16")  # who names nobody is of that policy as well
        client.close()
        return
    # A change_cipher_spec may stand before it.
    assert answer.endswith(b"\x02\x70"), answer
    assert answer[-7:-6] == b"\x15"
    client.close()
    house.gateway.run()
    assert house.gateway.done == 0
    assert sum(house.gateway.failures.values()) == 1


def test_a_reload_that_asks_for_certificates_holds_for_connections_that_are_here(house):
    client = tried(house, client_context(), PUBLIC)
    client.send(b"GET / HTTP/1.1\r\nHost: public.example\r\n\r\n")
    assert house.reached() == [("open", b"public.example")]
    certified = PolicySettings(client_certificate="require", client_ca=house.ours.pem)
    settings = TlsSettings(house.serving.settings.certificates, certified)
    house.gateway.world.serve(Serving.of(settings, house.serving))
    client.read()
    client.send(b"GET / HTTP/1.1\r\nHost: public.example\r\n\r\n")
    assert house.reached() == []
    assert client.read().startswith(b"HTTP/1.1 421 ")
    assert Peer.read(client) == b""
