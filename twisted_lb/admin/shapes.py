"""The shapes of decisions and explanations in the API, as JSON Schemas for the OpenAPI document. `answers.py` makes such values."""

from typing import Any, Final

Shape = dict[str, Any]


def shape(needed: tuple[str, ...] | None, said: str = "", /, **properties: Shape) -> Shape:
    """An object with these properties, of which those `needed` are always there: all, if None."""
    found: Shape = {"type": "object", "properties": properties}
    found["required"] = list(properties if needed is None else needed)
    return found | ({"description": said} if said else {})


def _ref(name: str) -> Shape:
    return {"$ref": f"#/components/schemas/{name}"}


def _or_none(one: Shape) -> Shape:
    return {"anyOf": [one, {"type": "null"}]}


def _list(one: Shape) -> Shape:
    return {"type": "array", "items": one}


def _told(kind: str | list[str], said: str) -> Shape:
    return {"type": kind, "description": said}


_TEXT: Final[Shape] = {"type": "string"}
_YES: Final[Shape] = {"type": "boolean"}
_WHOLE: Final[Shape] = {"type": "integer"}
_SECONDS: Final = _told(["number", "null"], "Seconds; null for what did not happen, or is not over.")

# By the names that other shapes call them.
SHAPES: Final[dict[str, Shape]] = {
    "Candidate": shape(
        None,
        "A backend of a decision, as it was then.",
        backend=_told("string", "POOL/BACKEND."),
        skipped=_told(["string", "null"], "Why it could not be picked; null where it could."),
        state=_told(
            "string",
            "The same in a word: ready, drained, maint, weight 0, down, busy, ejected, standby, full, tried; or by its own word: "
            "drained, in maintenance, down by its agent.",
        ),
        rank=_told(["number", "null"], "What its policy ranked it by."),
        load=_told(["integer", "null"], "Requests in flight; null where that was not kept."),
        limit=_told("integer", "How many it may have; 0: no bound."),
        weight=_WHOLE,
        weight_effective=_told("number", "The weight that counted, by slow start and the like."),
        panic=_told("boolean", "Whether it was used although something takes it out: too few were usable."),
        reason=_told("string", "What took it out: what a check or a request has found, or who: by alice: “deploy”."),
        for_s=_told(["number", "null"], "For how long it had been so, in seconds."),
        left_s=_told(["number", "null"], "How long until a request may try it; null where time does not decide."),
    ),
    "Decision": shape(
        ("pool", "picked", "waits", "trial", "rule", "candidates"),
        "Which backend a request gets, or got, and why.",
        pool=_TEXT,
        picked=_told(["string", "null"], "POOL/BACKEND; null for nobody."),
        waits=_told("boolean", "Whether it would wait in the queue."),
        trial=_told("boolean", "Whether it finds out if an ejected backend is back."),
        rule=_told("string", "What decided, with its number."),
        candidates=_list(_ref("Candidate")),
        worker=_told("integer", "The worker that was asked, of several, for a decision that is not made yet."),
    ),
    "Attempt": shape(
        None,
        "One attempt at a request.",
        backend=_TEXT,
        outcome=_told(["string", "null"], "The name of its outcome; null while it runs."),
        reason=_told("string", "What was wrong."),
        number=_WHOLE,
        most=_told("integer", "How many attempts there may be."),
        retried=_told("string", "Why there was another one after the one before."),
        reused=_told("boolean", "Whether it had a connection that was there."),
        protocol=_told(
            ["string", "null"], "HTTP/1.1 or HTTP/2; null without a connection, and for one that is carried as it is."
        ),
        stream=_told(["integer", "null"], "Of HTTP/2 the number of its stream."),
        budget_left=_told(["integer", "null"], "How many retries the pool's budget allowed behind it."),
        queue_s={"type": "number"},
        connect_s=_SECONDS,
        first_byte_s=_SECONDS,
        rest_s=_SECONDS,
        began_s=_told("number", "When it began, from the head of the request on."),
        took_s=_SECONDS,
        then=_told("string", "What became of the backend by it: ejected for 1 s: connection refused; used again: …"),
        decision=_or_none(_ref("Decision")),
    ),
    "Agreed": shape(
        None,
        "What TLS has agreed on with a client.",
        text=_told("string", "All of it in a few words."),
        version=_told("string", "TLSv1.2, TLSv1.3."),
        cipher=_TEXT,
        server_name=_told("string", "What the client has asked for (SNI); empty for nothing."),
        resumed=_told("boolean", "Whether a session was resumed."),
        client_subject=_told("string", "Of the certificate that the client has shown; empty for none."),
        client_fingerprint=_told("string", "Its SHA-256."),
    ),
    "ToldByProxy": shape(
        None,
        "What a balancer in front has told of a connection in its PROXY header; each part empty where it has not.",
        text=_told("string", "All of it in a few words."),
        authority=_told("string", "The host that the client has asked it for."),
        alpn=_told("string", "The protocol of the two."),
        unique_id=_told("string", "Its own name for the connection."),
        tls_version=_told("string", "Of its TLS with the client: TLSv1.3."),
        tls_cipher=_TEXT,
        client_cn=_told("string", "The common name in the client's certificate."),
        client_verified=_told("boolean", "Whether it has found that certificate to be good."),
        aws_vpce_id=_told("string", "The VPC endpoint that the client came by (AWS)."),
        azure_pel_id=_told("string", "The private endpoint that the client came by (Azure)."),
        gcp_conn_id=_told("string", "The connection of Private Service Connect that the client came by (Google)."),
    ),
    "Explanation": shape(
        None,
        "One request, explained: its attempts, who was skipped and why, what it took. Its query is not in it.",
        id=_TEXT,
        at=_told("number", "When it began, in seconds since 1970."),
        method=_TEXT,
        path=_TEXT,
        query=_told("boolean", "Whether it had a query."),
        status=_told(["integer", "null"], "What its client was told; null for nothing so far."),
        outcome=_told(["string", "null"], "The name of what ended it; null while it runs."),
        running=_YES,
        local_reply=_told("boolean", "Whether the balancer itself has answered."),
        detail=_TEXT,
        client=_TEXT,
        tls=_or_none(_ref("Agreed")),
        proxy=_or_none(_ref("ToldByProxy")),
        listener=_TEXT,
        route=_told(["string", "null"], "null for none."),
        pool=_told(["string", "null"], "null for none."),
        attempts=_list(_ref("Attempt")),
        skipped=_told("array", "Who was out at one of the decisions.") | {"items": _ref("Candidate")},
        candidates=_told("array", "Who was not, at the last one.") | {"items": _ref("Candidate")},
        decision=_or_none(_ref("Decision")),
        note=_told("array", "What else decided.") | {"items": _TEXT},
        queue_s={"type": "number"},
        head_s=_SECONDS,
        took_s=_SECONDS,
        response_bytes=_WHOLE,
    ),
    "Routed": shape(
        None,
        "Where a request would go.",
        listener=_TEXT,
        looked_at=_list(shape(None, n=_WHOLE, name=_TEXT, matches=_YES, why=_TEXT, place=_TEXT)),
        route=_told(["string", "null"], "The route that takes it; null for none."),
        action=_told("string", "pool, split, answer, redirect, deny, none (no route), or refuse (no request)."),
        status=_told(["integer", "null"], "What its client would be told, where no backend is asked."),
        why=_TEXT,
        pool=_told(["string", "null"], "null where it goes to none."),
        decision=_or_none(_ref("Decision")),
        mirror=_told(["string", "null"], "The pool that would get it too; null for none."),
        mirror_percent=_told("number", "How often, of a hundred times."),
    ),
}
