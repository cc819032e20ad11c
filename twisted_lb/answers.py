"""Answers to an operator's questions as JSON values, in the shapes of the admin API. Backends are called `pool/name` there."""

from collections.abc import Iterable
from typing import Final

from twisted_lb.core.agent import STATES
from twisted_lb.core.agreed import Agreed, ToldByProxy
from twisted_lb.core.decision import Candidate, Decision
from twisted_lb.core.explaining import Explained, ExplainedAttempt
from twisted_lb.core.standing import Skipped
from twisted_lb.questions import Held, Routed

Json = dict[str, object]

# A candidate's state in one word, where it is skipped.
_STATES: Final = {
    Skipped.WEIGHT: "weight 0",
    Skipped.DOWN: "down",
    Skipped.BUSY: "busy",
    Skipped.EJECTED: "ejected",
    Skipped.STANDBY: "standby",
    Skipped.FULL: "full",
    Skipped.TRIED: "tried",
}
_ADMIN_STATES: Final = {"drain": "drained", "maint": "maint"}


def decision_json(decision: Decision) -> Json:
    """A decision: who is picked, by which rule, and each candidate."""
    return {
        "pool": decision.pool,
        "picked": None if decision.picked is None else f"{decision.pool}/{decision.picked}",
        "waits": decision.waits,
        "trial": decision.trial,
        "rule": decision.rule,
        "candidates": [_candidate(one) for one in decision.candidates],
    }


def _candidate(one: Candidate) -> Json:
    return {
        "backend": f"{one.pool}/{one.backend_name}",
        "skipped": None if one.skipped is None else one.skipped.value,
        "state": "ready"
        if one.skipped is None
        else STATES.get(one.agent, "")
        if one.skipped is Skipped.AGENT
        else _STATES.get(one.skipped) or _ADMIN_STATES.get(one.admin, one.admin),
        "rank": one.rank,
        "load": one.load,
        "limit": one.limit,
        "weight": one.weight,
        "weight_effective": one.weight_effective,
        "panic": one.panic,
        "reason": one.reason,
        "for_s": one.for_s,
        "left_s": one.left_s,
    }


def kind_of(asked: str) -> str:
    """A kind of requests as a data plane calls it, of how operators do."""
    return "recent" if asked == "last" else asked


def held_json(explained: Iterable[Explained], held: Held) -> Json:
    """Requests, explained, and how many are held."""
    return {
        "requests": [explained_json(one) for one in explained],
        "held": held.requests,
        "oldest_at": held.oldest_at,
    }


def explained_json(explained: Explained) -> Json:
    """A request, explained. Its query is not in it."""
    return {
        "id": explained.id,
        "at": explained.began_at,
        "method": explained.method,
        "path": explained.path,
        "query": explained.query,
        "status": explained.status or None,
        "outcome": explained.outcome or None,
        "running": explained.running,
        "local_reply": explained.local_reply,
        "detail": explained.detail,
        "client": explained.client,
        "tls": None if explained.agreed is None or not explained.agreed.version else _agreed(explained.agreed),
        "proxy": None if explained.agreed is None or explained.agreed.told is None else _told(explained.agreed.told),
        "listener": explained.listener,
        "route": explained.route or None,
        "pool": explained.pool or None,
        "attempts": [_attempt(one) for one in explained.attempts],
        "skipped": [_candidate(one) for one in explained.skipped],
        "candidates": [_candidate(one) for one in explained.candidates],
        "decision": None if explained.decision is None else decision_json(explained.decision),
        "note": list(explained.note),
        "queue_s": explained.queue_s,
        "head_s": explained.head_s,
        "took_s": explained.took_s,
        "response_bytes": explained.response_bytes,
    }


def _agreed(agreed: Agreed) -> Json:
    return {
        "text": str(agreed),
        "version": agreed.version,
        "cipher": agreed.cipher,
        "server_name": agreed.server_name,
        "resumed": agreed.resumed,
        "client_subject": agreed.subject,
        "client_fingerprint": agreed.fingerprint,
    }


def _told(told: ToldByProxy) -> Json:
    return {
        "text": str(told),
        "authority": told.authority,
        "alpn": told.alpn,
        "unique_id": told.unique_id,
        "tls_version": told.tls_version,
        "tls_cipher": told.tls_cipher,
        "client_cn": told.client_cn,
        "client_verified": told.client_verified,
        "aws_vpce_id": told.aws_vpce_id,
        "azure_pel_id": told.azure_pel_id,
        "gcp_conn_id": told.gcp_conn_id,
    }


def _attempt(one: ExplainedAttempt) -> Json:
    return {
        "backend": f"{one.pool}/{one.backend}",
        "outcome": one.outcome or None,
        "reason": one.reason,
        "number": one.number,
        "most": one.most,
        "retried": one.retried,
        "reused": one.reused,
        "protocol": one.protocol or None,
        "stream": one.stream,
        "budget_left": one.budget_left,
        "queue_s": one.queue_s,
        "connect_s": one.connect_s,
        "first_byte_s": one.first_byte_s,
        "rest_s": one.rest_s,
        "began_s": one.began_s,
        "took_s": one.took_s,
        "then": one.then,
        "decision": None if one.decision is None else decision_json(one.decision),
    }


def routed_json(routed: Routed) -> Json:
    """Where a request would go. The places of routes in a file are not known here."""
    return {
        "listener": routed.listener,
        "looked_at": [
            {"n": one.n, "name": one.name, "matches": one.matches, "why": one.why} for one in routed.looked_at
        ],
        "route": routed.route,
        "action": routed.action,
        "status": routed.status,
        "why": routed.why,
        "pool": routed.pool,
        "decision": None if routed.decision is None else decision_json(routed.decision),
        "mirror": routed.mirror,
        "mirror_percent": routed.mirror_percent,
    }
