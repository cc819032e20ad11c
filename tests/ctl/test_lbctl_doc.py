"""What docs/lbctl.md shows is what `lbctl` prints.

`LBCTL_DOC=renew pytest tests/ctl/test_lbctl_doc.py` writes it anew.
"""

import os
import re
import shlex
from pathlib import Path
from types import SimpleNamespace

import pytest
from ctl_house import Problem
from ctl_sample import EVENTS, OVERLOADED, PLAN, RETRIED, ROUTED, SOON, VALUES, certificate, status

from twisted_lb.admin.words import verdict
from twisted_lb.config.base import Model
from twisted_lb.config.pools import PoolConfig
from twisted_lb.core.pickers import POLICIES
from twisted_lb.ctl.reference import renewed
from twisted_lb.ctl.text import STATES

DOC = Path(__file__).parent.parent.parent / "docs" / "lbctl.md"
BLOCK = re.compile(r"```\n\$ (lbctl [^\n]*)\n(.*?)```\n", re.DOTALL)


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
    why = "app/b4 is the last usable backend of app; every request to app would be refused (353 a second now)"
    served = status()
    served["listeners"][0]["certificates"] = [
        certificate("www.example.com", "example.com", days=80.5),
        certificate("api.example.com", days=12.5, file=SOON["text"].partition(":")[0], flaws=[SOON], key_type="RSA"),
    ]
    api.answers |= {
        "GET /v1/status": served,
        "PATCH /v1/backends/app/b3": {"backend": b3, "changes": ["ready → drain"], "follows": []},
        "PATCH /v1/backends/app/b4": Problem(409, "last_usable", why),
        "GET /v1/backends": emptier,
        "GET /v1/plan": PLAN,
        "POST /v1/reload": PLAN | {"generation": 43, "lines": lines},
        "GET /v1/config": {"values": VALUES},
        "GET /v1/explain": {"requests": [RETRIED, OVERLOADED]},
        f"GET /v1/explain/{RETRIED['id']}": RETRIED,
        f"GET /v1/explain/{OVERLOADED['id']}": OVERLOADED,
        "GET /v1/route": ROUTED,
        "GET /v1/events": {"events": EVENTS, "last": 809},
    }
    return lbctl


def test_certificates_are_shown_as_they_are_shown_here_in_the_document_on_tls():
    shown = [block for block in BLOCK.finditer(DOC.read_text()) if block[1] == "lbctl certificates"]
    assert [block[0] in (DOC.parent / "tls.md").read_text() for block in shown] == [True]


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


def test_the_sample_says_what_a_daemon_can_say():
    told = status()
    backends = [one for pool in told["pools"] for one in pool["backends"]]
    assert {pool["policy"] for pool in told["pools"]} <= set(POLICIES)
    assert all(one["value"] in POLICIES for one in VALUES if one["key"].endswith(".policy"))
    keys = set(_keys(PoolConfig))
    assert {
        one["key"].split(".", 2)[2]
        for one in VALUES
        if one["key"].startswith("pools.") and ".backends." not in one["key"]
    } <= keys
    assert {one["state"] for one in backends} <= set(STATES)
    # The verdict is what the daemon makes of these backends, and clauses are of those that are not simply used.
    pools = [
        SimpleNamespace(**{**pool, "panic": False, "backends": [SimpleNamespace(**one) for one in pool["backends"]]})
        for pool in told["pools"]
    ]
    said = verdict(pools, ready=True, why_not="")
    assert (said.level, said.text) == (told["verdict"]["level"], told["verdict"]["text"])
    assert {(one.subject, one.state) for one in said.clauses} <= {
        (one["subject"], one["state"]) for one in told["verdict"]["clauses"]
    }


def _keys(model, prefix=""):
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Model):
            yield from _keys(field.annotation, f"{prefix}{name}.")
        else:
            yield prefix + name


def test_the_table_of_verbs_is_that_of_the_parsers():
    assert DOC.read_text() == renewed(DOC.read_text()), "scripts/docs renews it"
