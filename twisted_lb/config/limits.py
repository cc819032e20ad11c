"""Timeouts and limits: how long each wait may last, and how much of a message is taken; by their owners."""

from pydantic import Field

from twisted_lb.config.base import Bytes, Model, Seconds, Token

# A process of some hundred megabytes is one that nobody wonders at.
USUAL_MEMORY_BYTES = 268_435_456


class IdleAnswerConfig(Model):
    """The wait for the next byte of an answer, which a listener's clients and a route's backends both have."""

    response_idle_s: Seconds = Field(
        default=60,
        description="For the next byte of an answer that has begun, and for a client to take what it was sent. "
        "Danger: shorter than the silences of an event stream cuts it.",
    )


class ClientTimeoutsConfig(IdleAnswerConfig):
    """Timeouts of a listener's clients."""

    first_byte_s: Seconds = Field(
        default=10,
        description="For a new client to say anything at all, `client_idle_s` at most; then its connection is closed without "
        "a word. Danger: short values cut browsers that connect ahead of time.",
    )
    handshake_s: Seconds = Field(
        default=10,
        description="For a client's TLS handshake, from its connect on; then its connection is closed. Danger: short values cut "
        "clients on bad networks.",
    )
    head_s: Seconds = Field(
        default=10,
        description="For a client to send a whole request head, from its first byte. Danger: "
        "long values let slow heads (slowloris) hold connections open.",
    )
    body_idle_s: Seconds = Field(
        default=30,
        description="For the next byte of a request body, and how late a slow body (slower than "
        "`limits.client_bytes_per_s`) may be. Danger: short values cut uploads over bad networks.",
    )
    client_idle_s: Seconds = Field(
        default=75,
        description="For the next request on a client's connection (keep-alive); at `limits.connections` one second, where "
        "others wait.",
    )


class RouteTimeoutsConfig(IdleAnswerConfig):
    """Timeouts of the exchanges that a route leads."""

    response_head_s: Seconds = Field(
        default=60,
        description="For a backend to begin its answer, after it has the whole request; over all attempts together. "
        "Danger: shorter than the slowest page turns it into a 504.",
    )
    attempt_s: Seconds | None = Field(
        default=None,
        description="For a single attempt to begin its answer, so that time is left to ask another backend where "
        "that is safe; left out: an attempt may take all of it. Danger: shorter than the slowest page asks every "
        "backend for it.",
    )
    deadline_s: Seconds | None = Field(
        default=None,
        description="For an answer to begin, from the request's head on: waits in the queue and all attempts included; then 504. "
        "What no backend has answered in the time that is left, of late, is not sent any more. Left out: none.",
    )
    deadline_header: Token | None = Field(
        default=None,
        description="A header field in which clients say for how long they wait, in milliseconds, or as gRPC has it (`100m`, `2S`): "
        "a deadline, where it is before that of `deadline_s`. Left out: none.",
    )
    tunnel_idle_s: Seconds = Field(
        default=3600,
        description="For the next byte in either direction of a tunnel, such as a WebSocket. Danger: "
        "shorter than the application's own pings cuts quiet clients off.",
    )
    half_open_s: Seconds = Field(
        default=300,
        description="For the next byte of a tunnel of which one side has sent its FIN (half-closed), `tunnel_idle_s` at most. "
        "Danger: shorter than a backend thinks before it answers a client that has said all cuts the answer off; long values keep "
        "what dead clients have left.",
    )


class PoolTimeoutsConfig(Model):
    """Timeouts of a pool's connections to its backends."""

    connect_s: Seconds = Field(
        default=5,
        description="For a backend to accept a connection, all addresses of its name together.",
    )


class TimeoutsConfig(ClientTimeoutsConfig, RouteTimeoutsConfig, PoolTimeoutsConfig):
    """Timeouts: how long each kind of waiting may last; nothing waits for ever. Those of a stop are for the whole process, the
    others for what is called `default`.
    """

    drain_s: Seconds = Field(
        default=8,
        description="For running exchanges to finish when the balancer is stopped (graceful drain); what is not "
        "finished then is cut. Danger: longer than your service manager's patience is cut by it.",
    )
    tunnel_drain_s: Seconds = Field(
        default=3600,
        description="For tunnels and endless answers to finish after a SIGQUIT, or when another instance has taken over; "
        "what is not finished then is cut. Danger: until then the process stays, with its memory.",
    )


class HeadLimitsConfig(Model):
    """Limits of heads: of requests, where a listener has them, and of answers, where a pool has."""

    head_bytes: int = Field(
        default=32768,
        ge=256,
        le=2**22,
        description="Longest head of a request or an answer, first line included (431 beyond "
        "it); interim answers (1xx) may be as long all together, counted anew with each piece of the upload. "
        "Danger: every connection may hold this much.",
    )
    head_fields: int = Field(
        default=128,
        ge=8,
        le=10_000,
        description="Most header fields in a head (431 beyond it).",
    )
    trailer_bytes: int = Field(
        default=8192,
        ge=0,
        le=2**20,
        description="Longest trailer section of a chunked body.",
    )


class ClientLimitsConfig(HeadLimitsConfig):
    """Limits of a listener's clients."""

    request_line_bytes: int = Field(
        default=8192,
        ge=64,
        le=2**20,
        description="Longest request line (414 beyond it). Danger: below 8000 breaks real URLs.",
    )
    connections: int | None = Field(
        default=None,
        ge=1,
        le=10_000_000,
        description="Clients' connections that may be open at once; more wait in the kernel's accept queue until one "
        "closes, or one makes room that has been idle for a second behind an answer (of the client with most connections "
        "first). Left out: half of the descriptors that the process may open, less some of its own, since each may need one "
        "to a backend. "
        "Danger: more than half runs out of descriptors, and requests get a 503.",
    )
    connections_per_client: int = Field(
        default=0,
        ge=0,
        le=10_000_000,
        description="Connections that one address may have open (an IPv6 one: its whole /64); more get a 429 and are "
        "closed. `trusted_proxies` have no such limit; behind them each client may have so many requests under "
        "way, more get a 429. 0: no limit. Danger: many people share one address.",
    )
    handshakes: int = Field(
        default=1000,
        ge=1,
        le=10_000_000,
        description="TLS handshakes that may be open at once; who comes beyond that waits for its turn, within `handshake_s`, so that a flood of "
        "them holds nobody up who has a connection. Danger: each costs some 0.3 ms of CPU.",
    )
    client_bytes_per_s: int = Field(
        default=240,
        ge=0,
        le=2**30,
        description="The slowest a client may send its body or take its answer, on average: a slow body (slowloris) is "
        "408, a slow read is cut. 0: no bound. Danger: uploads that trickle by design need 0.",
    )


class BodyLimitsConfig(Model):
    """Limits of the request bodies that a route takes."""

    replay_body_bytes: Bytes = Field(
        default=65536,
        description="How much of a request body is held for a retry (replay buffer); a longer one is not retried "
        "once sent. Danger: every running request may hold this much.",
    )
    body_bytes: Bytes | None = Field(
        default=None,
        description="Longest request body (413 beyond it); left out: no limit, bodies are "
        "streamed and never held whole. Danger: without a limit the backends must have one.",
    )


class LimitsConfig(ClientLimitsConfig, BodyLimitsConfig):
    """Limits: how much of a message is held, or accepted at all; beyond it the client gets a 4xx."""

    memory_bytes: Bytes = Field(
        default=USUAL_MEMORY_BYTES,
        description="How much of bodies the whole process holds for slow clients (`buffer_request_bytes`, "
        "`buffer_response_bytes`); beyond that no more is read until there is room, and nothing is cut. Danger: little of it, "
        "and a few slow clients have all.",
    )
