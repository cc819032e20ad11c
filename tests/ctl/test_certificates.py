"""`lbctl certificates`, and what status and doctor say of TLS."""

import json

import pytest
from ctl_sample import SOON, WWW, certificate, flaw, status

TABLE = """\
LISTENER  NAMES                              KEY    EXPIRES                  FILE
web       www.example.com, example.com       ECDSA  2027-02-14, in 80 days   /etc/letsencrypt/live/www.example.com/fullchain.pem
web       a.test, b.test, c.test and 2 more  RSA    2027-09-21, in 300 days  /etc/lb/tls/many.pem
"""

EXPIRED = flaw("/etc/lb/api.pem: has expired on 2026-11-18: clients refuse it", kind="expired", grave=True)
STALE = flaw(
    "/etc/lb/clients.crl: is past its next update on 2026-11-24: no client certificate is accepted",
    kind="stale",
    grave=True,
)


@pytest.fixture
def served(api):
    """What the listener `web` serves is the test's."""

    def serve(*certificates, flaws=()):
        told = status()
        told["listeners"][0] |= {"certificates": list(certificates), "flaws": list(flaws)}
        api.answers["GET /v1/status"] = told
        return told

    return serve


def test_certificates_are_a_table(lbctl, served):
    served(
        certificate("www.example.com", "example.com", days=80.5, file=WWW),
        certificate(
            "a.test", "b.test", "c.test", "d.test", "e.test", days=300, file="/etc/lb/tls/many.pem", key_type="RSA"
        ),
    )
    assert lbctl("certificates") == 0
    assert lbctl.out == TABLE


def test_what_comes_to_its_end_is_said_below_and_is_no_failure(lbctl, served):
    served(certificate("api.example.com", days=12.5, flaws=[SOON]))
    assert lbctl("certificates") == 0
    table, said = lbctl.out.split("\n\n")
    assert "  2026-12-08, in 12 days  " in table
    assert said == f"‼ {SOON['text']}\n"


def test_one_that_has_expired_ends_with_1_and_stands_first(lbctl, served):
    served(
        certificate("api.example.com", days=12.5, flaws=[SOON]),
        certificate("api.example.com", days=-7.2, file="/etc/lb/api.pem", flaws=[EXPIRED]),
    )
    assert lbctl("certificates") == 1
    assert "  2026-11-18, 7 days ago  " in lbctl.out
    assert lbctl.out.endswith(f"\n\n✗ {EXPIRED['text']}\n‼ {SOON['text']}\n")


@pytest.mark.parametrize(
    ("days", "said"), [(-0.5, ", today"), (0.5, ", within a day"), (1.5, ", in 1 day"), (-1.5, ", 1 day ago")]
)
def test_days_are_whole_ones(lbctl, served, days, said):
    served(certificate("www.example.com", days=days))
    lbctl("certificates")
    assert f"{said}  /etc" in lbctl.out


def test_a_revocation_list_past_its_next_update_ends_with_1(lbctl, served):
    served(certificate("www.example.com", days=80), flaws=[STALE])
    assert lbctl("certificates", "web") == 1
    assert lbctl.out.endswith(f"\n\n✗ {STALE['text']}\n")


def test_one_listener_alone(lbctl, served):
    told = served(certificate("www.example.com", days=-1, flaws=[EXPIRED]))
    told["listeners"][1]["certificates"] = [certificate("in.example.com", days=80, listener="internal")]
    assert lbctl("certificates", "internal") == 0
    assert "in.example.com" in lbctl.out
    assert "www" not in lbctl.out.replace(WWW, "")


def test_a_listener_that_is_not_there_ends_with_4(lbctl):
    assert lbctl("certificates", "wep") == 4
    assert lbctl.err == 'lbctl: there is no listener "wep"; did you mean "web"?\n'


def test_where_nobody_speaks_tls_that_is_a_sentence(lbctl, served):
    assert lbctl("certificates") == 0
    assert (lbctl.out, lbctl.err) == ("", "no listener speaks TLS\n")
    served(certificate("www.example.com", days=80))
    assert lbctl("certificates", "internal") == 0
    assert (lbctl.out, lbctl.err) == ("", "internal speaks no TLS\n")


def test_json_has_all_of_it(lbctl, served):
    one = certificate("api.example.com", days=12.5, flaws=[SOON])
    served(one, flaws=[STALE])
    assert lbctl("certificates", "--json") == 1
    assert json.loads(lbctl.out) == {"certificates": [one], "flaws": [STALE]}


def test_status_names_what_is_wrong_once_the_gravest_first(lbctl, served):
    told = served(
        certificate("api.example.com", days=12.5, flaws=[SOON]), certificate("api", days=-7.2, flaws=[EXPIRED])
    )
    told["listeners"][1] |= {"certificates": told["listeners"][0]["certificates"]}
    lbctl("status")
    notes = lbctl.out.rpartition("\n\n")[2].splitlines()
    assert notes[0].split("   ") == [EXPIRED["text"], "lbctl certificates"]
    assert notes[1].split("   ") == [SOON["text"], "lbctl certificates"]
    assert "certificates" not in "".join(notes[2:])


def test_a_file_that_the_configuration_names_and_has_changed_is_named(lbctl, api):
    told = status()
    told["file"] = {"path": "lb.toml", "changed_s": 178.0, "changed": WWW}
    api.answers["GET /v1/status"] = told
    lbctl("status")
    assert lbctl.out.splitlines()[-1].startswith(f"{WWW} changed 3 min ago, not loaded   ")


def findings(lbctl):
    lbctl("doctor", "--json")
    return [one for one in json.loads(lbctl.out)["findings"] if one["subject"].startswith("TLS")]


def test_doctor_looks_at_certificates(lbctl, api, served, monkeypatch):
    monkeypatch.setattr("twisted_lb.ctl.doctor._backends", lambda status, config: [])
    api.answers["GET /v1/config"] = {"values": []}
    served(certificate("www.example.com", days=80.5), certificate("a", days=300))
    assert findings(lbctl) == [
        {"level": "good", "subject": "TLS of web", "text": "2 certificates, none expires within 80 days", "hint": ""}
    ]
    served(certificate("a", days=-7.2, flaws=[EXPIRED]), certificate("b", days=12.5, flaws=[SOON]))
    assert [(one["level"], one["text"]) for one in findings(lbctl)] == [
        ("bad", EXPIRED["text"]),
        ("doubtful", SOON["text"]),
    ]
    assert lbctl("doctor") == 1
