"""What docs/lbctl.md shows is what `lbctl` prints.

`LBCTL_DOC=renew pytest tests/ctl/test_lbctl_doc.py` writes it anew.
"""

import json
import os
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from ctl_house import Problem
from ctl_sample import EVENTS, OVERLOADED, PLAN, RETRIED, ROUTED, VALUES, status

from twisted_lb.ctl.reference import renewed

DOC = Path(__file__).parent.parent.parent / "docs" / "lbctl.md"
BLOCK = re.compile(r"```\n\$ (lbctl [^\n]*)\n(.*?)```\n", re.DOTALL)


# The sample is of a balancer that knows slow start; what people read shows what there is.
TO_COME = {
    "; slow start for 60 s": "",
    "~ pools.api.slow_start_s 60 → 30          from the next start of a backend on": "~ pools.api.queue.no_backend_s 5 → 10",
    "pools.api.slow_start_s": "pools.api.queue.most",
    "pools.api.queue.timeout_s": "pools.api.queue.no_backend_s",
}


def as_it_is(sample: Any) -> Any:
    """A sample without what is still to come."""
    text = json.dumps(sample, ensure_ascii=False)
    for word, now in TO_COME.items():
        text = text.replace(word, now)
    return json.loads(text)


def status_as_it_is() -> Any:
    told = as_it_is(status())
    told["verdict"]["clauses"] = [one for one in told["verdict"]["clauses"] if one["state"] != "slow start"]
    for one in told["pools"][2]["backends"]:
        if one["state"] == "slow start":
            one |= {"state": "ready", "reason": "", "weight_effective": 1.0}
    return told


@pytest.fixture
def told(lbctl, api):
    """An API that has an answer to each command of the document."""
    b3 = next(one for one in status()["pools"][0]["backends"] if one["name"] == "app/b3")
    b3 |= {"admin": "drain", "state": "drained", "usable": False, "in_flight": 6}
    left = iter([(2, 2)] * 2 + [(0, 2)] * 4 + [(0, 1)] * 20 + [(0, 0)])

    def emptier():
        requests, tunnels = next(left)
        return {"backends": [b3 | {"in_flight": requests + tunnels, "tunnels": tunnels}]}

    lines = ["+ app/b5", "~ pools.api.queue.no_backend_s", "- static/s3 (leaving: 3 requests)"]
    why = "app/b4 is the last usable backend of app; every request to app would get a 503 (353 a second now)"
    api.answers |= {
        "GET /v1/status": status_as_it_is,
        "PATCH /v1/backends/app/b3": {"backend": b3, "changes": ["ready → drain"], "follows": []},
        "PATCH /v1/backends/app/b4": Problem(409, "last_usable", why),
        "GET /v1/backends": emptier,
        "GET /v1/plan": as_it_is(PLAN),
        "POST /v1/reload": as_it_is(PLAN) | {"generation": 43, "lines": lines},
        "GET /v1/config": {"values": as_it_is(VALUES)},
        "GET /v1/explain": {"requests": [RETRIED, OVERLOADED]},
        f"GET /v1/explain/{RETRIED['id']}": RETRIED,
        f"GET /v1/explain/{OVERLOADED['id']}": OVERLOADED,
        "GET /v1/route": ROUTED,
        "GET /v1/events": {"events": as_it_is(EVENTS), "last": 809},
    }
    return lbctl


def test_the_outputs_are_those_of_lbctl(told):
    def said(block):
        told(*shlex.split(block[1])[1:])
        return f"```\n$ {block[1]}\n{told.both}```\n"

    text = DOC.read_text()
    assert len(BLOCK.findall(text)) >= 10
    made = BLOCK.sub(said, text)
    if os.environ.get("LBCTL_DOC") == "renew":
        DOC.write_text(made)
    assert made == text or os.environ.get("LBCTL_DOC") == "renew"


def test_the_table_of_verbs_is_that_of_the_parsers():
    assert DOC.read_text() == renewed(DOC.read_text()), "scripts/docs renews it"
