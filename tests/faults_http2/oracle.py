"""Judges a story over HTTP/2: every request that arrived has one end, and what its client was told is true."""

from collections import Counter, defaultdict

from faults.reader import Message
from faults.servers import Server as Http1Server
from faults_http2.clients import Asking, Client
from faults_http2.peer import (
    CANCEL,
    ENHANCE_YOUR_CALM,
    INTERNAL_ERROR,
    NO_ERROR,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    Stream,
)
from faults_http2.servers import Server as Http2Server
from faults_http2.town import Town

from twisted_lb.core.outcome import Outcome
from twisted_lb.core.record import Record

IDEMPOTENT = {"GET", "HEAD", "PUT", "DELETE", "OPTIONS"}
WELL = {"OK", "BAD_STATUS"}
RESETS = {NO_ERROR, INTERNAL_ERROR, PROTOCOL_ERROR, REFUSED_STREAM, CANCEL}
# With these nothing may end that its client has not broken.
MOST_COSTS = 300
MOST_UNSENT = 65536 + 2 * 65536 + 32768 + 65536
# What is said to who opens windows by little.
DRIBBLES = (b"windows that are opened by little", b"more windows than answers")
TRAILERS = b"0\r\nX-Sum: 1\r\n\r\n"


class Oracle:
    """`complaints` are what is wrong with a story."""

    def __init__(self, town: Town) -> None:
        self.town = town
        self.complaints = list(town.complaints)
        self.records: dict[str, Record] = {}
        self.reached: dict[str, list[str]] = defaultdict(list)  # where a request was begun, and may have done something
        self.asks: dict[str, Asking] = {one.ask.name: one for client in town.clients for one in client.askings}
        self._judge()

    def complain(self, text: str) -> None:
        self.complaints.append(text)

    def _judge(self) -> None:
        town = self.town
        for name, thing in town.left.items():
            self.complain(f"left over: {name}: {thing}")
        for event in town.logged:
            failure = event.get("log_failure")
            self.complain(f"logged: {event.get('log_format')}\n{'' if failure is None else failure.getTraceback()}")
        if town.network.largest_unsent > MOST_UNSENT + town.config.buffer_response_bytes:
            self.complain(f"{town.network.largest_unsent} bytes were held for somebody who takes none")
        for record in town.records:
            name = record.target.decode().removeprefix("/r/")
            if name in self.records:
                self.complain(f"{name} ended twice")
            if name in self.asks:
                self.records[name] = record
            elif record.target not in (b"_", b"") or record.attempts:
                self.complain(f"{record} is of no request")
        for server in town.servers:
            self._judge_server(server)
        for client in town.clients:
            self._judge_client(client)
        for asking in self.asks.values():
            if asking.stream is not None:
                self._judge_one(asking, asking.stream)
        self._count_outcomes()

    # Backends.

    def _judge_server(self, server: Http1Server | Http2Server) -> None:
        for connection in server.connections:
            if isinstance(server, Http1Server):
                reader = connection._reader
                if reader.broken:
                    self.complain(f"{server.address} was sent what is no request: {reader.broken}")
                for message in reader.messages:
                    if message.target.startswith(b"/r/") and message.head_ends_at is not None:
                        self._judge_message(server.address, message)
                continue
            for call in connection.calls.values():
                if call.head[":path"] == "/health":
                    continue
                if call.begun:
                    self.reached[call.name].append(server.address)
                head = call.head
                asking = self.asks.get(call.name)
                if asking is not None and asking.ask.trails and call.stream.heard_end and not call.stream.trailers:
                    self.complain(f"{server.address} was sent {call.name} without its trailers")
                self._judge_request(
                    server.address, call.name, head[":method"], bytes(call.stream.body), whole=call.stream.heard_end
                )

    def _judge_message(self, address: str, message: Message) -> None:
        name = message.target.decode().removeprefix("/r/")
        self.reached[name].append(address)
        self._judge_request(address, name, message.method.decode(), bytes(message.body), whole=message.complete)
        asking = self.asks.get(name)
        if asking is not None and asking.ask.says_length and message.framing != len(asking.ask.body):
            self.complain(f"{address} was told of {message.framing} bytes of {name}, {len(asking.ask.body)} were said")

    def _judge_request(self, address: str, name: str, method: str, body: bytes, *, whole: bool) -> None:
        asking = self.asks.get(name)
        if asking is None:
            self.complain(f"{address} was asked {name}, which nobody asks")
            return
        ask, stream = asking.ask, asking.stream
        if method != ask.method:
            self.complain(f"{address} was asked {method} {name}, not {ask.method}")
        said = ask.body + b"!" if ask.fault == "too much" else ask.body
        if body != said[: len(body)]:
            self.complain(f"{address} was sent another body of {name}")
        # In HTTP/1.1 a request whose length is known has its end with its last byte.
        by_length = not self.town.http2_backends and ask.says_length and len(body) == len(ask.body)
        if by_length:
            return
        if whole and (stream is None or not stream.said_end or len(body) != stream.said):
            self.complain(f"{address} was sent {len(body)} bytes of {name} as if that were all")
        if whole and ask.fault in ("too little", "too much"):
            self.complain(f"{address} was sent all of {name}, whose length is {ask.fault}")

    # Clients.

    def _judge_client(self, client: Client) -> None:
        if client.left.startswith("waited in vain"):
            self.complain(f"{client} {client.left}")
        peer = client.peer
        for last, code, reason in peer.went:
            dribbles = reason in DRIBBLES and client.dribbles
            if code == ENHANCE_YOUR_CALM and (peer.costs > MOST_COSTS or dribbles):
                continue
            if code != NO_ERROR and not (client.left == "half a head" and code == PROTOCOL_ERROR):
                self.complain(f"{client} was sent away with {code}: {reason!r}, behind {last}")
        for last, _, _ in peer.went:
            for number, asking in client.by_stream.items():
                stream = asking.stream
                if number > last and stream is not None and (stream.heads or asking.ask.name in self.records):
                    self.complain(
                        f"{asking} was served on stream {number}, and a GOAWAY says that nothing behind {last} is"
                    )
        if len(peer.went) > 1 and sorted(peer.went, key=lambda one: -one[0]) != peer.went:
            self.complain(f"{client} heard of more streams than before: {peer.went}")

    def _judge_one(self, asking: Asking, stream: Stream) -> None:
        ask, client = asking.ask, asking.client
        name = ask.name
        record = self.records.get(name)
        if asking.given_up and client.left not in ("stop reading", "mute", "half-close", "half a head"):
            self.complain(f"{asking} waited in vain for {asking.given_up}")
        heard = bool(stream.heads) or (stream.reset is not None and stream.reset != REFUSED_STREAM)
        if record is None:
            if heard or name in self.reached:
                self.complain(f"{name} was begun and never ended")
            return
        if stream.reset == REFUSED_STREAM:
            self.complain(f"{name} was refused, as if nobody had begun it, and it ended {record.ended_by}")
        if ask.method not in IDEMPOTENT and len(self.reached[name]) > 1:
            self.complain(f"{name}: a {ask.method} went to {self.reached[name]}")
        if len(self.reached[name]) > 1 + 3 + 2:
            self.complain(f"{name} went to {self.reached[name]}")
        if stream.reset is not None and stream.reset not in RESETS:
            self.complain(f"{name} was reset with {stream.reset}")
        if stream.reset == PROTOCOL_ERROR and ask.fault not in ("too little", "too much"):
            self.complain(f"{name} was reset with PROTOCOL_ERROR, and nothing is wrong with it")
        if stream.reset == NO_ERROR and not stream.heard_end:
            self.complain(f"{name} was reset as if it were answered")
        if asking.gave_up_at is not None and self._hears_at_once(client) and record.ended_at > asking.gave_up_at + 0.1:
            self.complain(
                f"{name} was given up at {asking.gave_up_at}, and ended {record.ended_by} at {record.ended_at}"
            )
        ended_by = record.ended_by.name if record.ended_by is not None else ""
        if stream.head:
            self._judge_answer(asking, stream, record, ended_by)
        elif stream.heard_end:
            self.complain(f"{name} has an end, and no answer")
        gone = client.lost is not None or client.ended or bool(client.left and client.left != "goaway")
        if ended_by in WELL and not stream.heard_end and stream.given_up is None and not gone:
            self.complain(f"{name} ended well, and its client has {stream.head} and no end")

    def _hears_at_once(self, client: Client) -> bool:
        """Whether what this client says is heard without delay."""
        chances = self.town.chances
        quiet = not (chances.delayed or chances.stalled or chances.partial_write)
        return quiet and client.reads_at_once and client.left in ("", "done")

    def _judge_answer(self, asking: Asking, stream: Stream, record: Record, ended_by: str) -> None:
        ask, head = asking.ask, stream.head
        name = ask.name
        if int(head[":status"]) != record.status:
            self.complain(f"{name} got {head[':status']}, and its end says {record.status}")
        without_content = ask.method == "HEAD" or head[":status"] in ("204", "304")
        if stream.heard_end and ended_by == Outcome.CUT_SHORT.name and not without_content:
            self.complain(f"{name} was cut short, and its client has an end behind {len(stream.body)} bytes")
        nonce = head.get("x-nonce", "")
        if not nonce:
            if head[":status"] not in ("400", "408", "413", "429", "500", "502", "503", "504"):
                self.complain(f"{name} was told {head} by ourselves")
            if head[":status"] == "408" and asking.starves and not self.town.chances.stalled:
                self.complain(f"{name} was told that its body is late, and the connection took nothing")
            if ended_by in WELL:
                self.complain(f"{name} ended well, and was told {head} by ourselves")
            return
        server = next(one for one in self.town.servers if nonce in one.answers)
        answer = server.answers[nonce]
        if head.get("x-name") != name:
            self.complain(f"{name} got the answer to {head.get('x-name')}")
        if bytes(stream.body) != answer.body[: len(stream.body)]:
            self.complain(f"{name} got another body than {nonce}")
        if not stream.heard_end:
            return
        if not answer.until_close and len(stream.body) != len(answer.body):
            self.complain(f"{name} got {len(stream.body)} bytes of {len(answer.body)} as the whole body of {nonce}")
        if isinstance(server, Http2Server) and not answer.whole:
            self.complain(f"{name} got an end, and {nonce} had none")
        trails = answer.trails if isinstance(server, Http2Server) else answer.wire.endswith(TRAILERS)
        if trails and ask.method != "HEAD" and ("x-sum", "1") not in (stream.trailers or []):
            self.complain(f"{name} got {stream.trailers} as the trailers of {nonce}")

    # Counts.

    def _count_outcomes(self) -> None:
        """The counters of the backends say the same as the ends of the requests."""
        said: dict[int, Counter[str]] = defaultdict(Counter)
        for record in self.town.records:
            for attempt in record.attempts:
                if attempt.outcome is not None:
                    said[id(attempt.lease.backend)][attempt.outcome.name] += 1
        for key, backend in self.town.backends.items():
            counts = Counter({one.name: n for one, n in zip(Outcome, backend.outcomes, strict=True) if n})
            if counts != said[key]:
                self.complain(f"{backend.name} counts {dict(counts)}, and requests ended {dict(said[key])}")


def judge(town: Town) -> list[str]:
    """What is wrong with a town that has run."""
    return Oracle(town).complaints
