"""Certificates and revocation lists that grow old while the process runs: what the log says of it, and how often."""

import datetime as dt

import pytest
from authority import DAY, NOW, Authority, chain_of, key_of
from twisted.logger import LogLevel, globalLogPublisher

from twisted_lb.certificate_watch import AGAIN_S, LOOK_S, CertificateWatch
from twisted_lb.config import LoadBalancerConfig
from twisted_lb.plan import plan_of
from twisted_lb.testing.balanced import WALL_TIME

DAY_S = 86_400.0


@pytest.fixture
def house(tmp_path):
    return Authority(tmp_path)


@pytest.fixture
def said():
    """The warnings of the log, as they are told."""
    found: list[str] = []

    def hear(event):
        if event["log_namespace"] == "twisted_lb.certificate_watch":
            assert event["log_level"] is LogLevel.warn
            found.append(f"{event['whose']}: {event['flaw']}")

    globalLogPublisher.addObserver(hear)
    yield found
    globalLogPublisher.removeObserver(hear)


class Watched:
    """A watch whose time is moved by hand, from NOW on, in steps that find everything."""

    def __init__(self, tls, **more):
        self.days = 0.0
        self.plan = planned(tls, **more)
        self.watch = CertificateWatch(lambda: NOW.timestamp() + self.days * DAY_S)

    def until(self, days: float, step: float = 0.25) -> None:
        while self.days < days:
            self.watch.tick(self.days * DAY_S, self.plan)
            self.days += step


def planned(tls, **more):
    config = LoadBalancerConfig.model_validate({"backends": ["a:80"], "listen": {"port": 443}, "tls": tls, **more})
    return plan_of(config)


def written(house, name="one.pem", *hosts, **more):
    leaf = house.leaf(*(hosts or ("example.com",)), **more)
    return house.write(name, chain_of(leaf), key_of(leaf))


def test_a_certificate_is_spoken_of_once_a_day_from_21_days_before_its_end_on_and_at_its_end(house, said):
    path = written(house, not_after=NOW + 23 * DAY)
    watched = Watched(path)
    watched.until(1.9)
    assert said == []
    watched.until(4.9)
    date = f"{NOW + 23 * DAY:%Y-%m-%d}"
    assert said == [f"listener default: {path}: expires in {days} days, on {date}" for days in (20, 19, 18)]
    said.clear()
    watched.until(22.9)
    assert len(said) == 18
    said.clear()
    watched.until(24.9)
    assert said == [f"listener default: {path}: has expired on {date}: clients refuse it"] * 2


def test_what_was_so_at_the_start_was_said_then_and_is_said_again_after_a_day(house, said):
    watched = Watched(written(house, not_after=NOW + 12.5 * DAY))
    watched.until(1.0)
    assert said == []
    watched.until(1.5)
    assert len(said) == 1


def test_a_certificate_that_was_renewed_is_not_spoken_of_any_more(house, said):
    watched = Watched(written(house, not_after=NOW + 22 * DAY))
    watched.until(1.9)
    assert len(said) == 1
    watched.plan = planned(written(house, not_after=NOW + 90 * DAY))
    watched.until(30.0)
    assert len(said) == 1


def test_a_certificate_of_several_listeners_is_spoken_of_once(house, said):
    path = written(house, not_after=NOW + 22 * DAY)
    watched = Watched(path)
    listeners = {
        name: {"address": f":{port}", "default_pool": "app", "tls": path} for name, port in (("a", 443), ("b", 444))
    }
    watched.plan = plan_of(
        LoadBalancerConfig.model_validate({"listeners": listeners, "pools": {"app": {"backends": ["a:80"]}}})
    )
    watched.until(1.9)
    assert len(said) == 1
    assert said[0].startswith("listener a: ")


def test_a_revocation_list_past_its_next_update_is_spoken_of(house, said):
    crl = house.write("clients.crl", house.crl(ends=NOW + 2 * DAY))
    tls = {
        "certificates": written(house, not_after=NOW + 300 * DAY),
        "client_certificate": "require",
        "client_ca": house.path,
        "crl": crl,
    }
    watched = Watched(tls)
    watched.until(1.9)
    assert said == []
    watched.until(3.9)
    text = f"listener default: {crl}: is past its next update on {NOW + 2 * DAY:%Y-%m-%d}: no client certificate is accepted"
    assert said == [text] * 2


def test_files_are_not_gone_through_at_each_turn(house, said):
    watched = Watched(written(house, not_after=NOW + 21 * DAY + DAY / 1440))
    asked = []
    watch = CertificateWatch(lambda: asked.append(1) or NOW.timestamp())
    for tick in range(int(4 * LOOK_S) * 3):
        watch.tick(tick / 4, watched.plan)
    assert len(asked) == 3
    assert LOOK_S < AGAIN_S


def test_the_data_plane_looks_at_the_certificates_in_force(house, said, build):
    began = dt.datetime.fromtimestamp(WALL_TIME, dt.UTC)
    path = written(house, not_before=began - DAY, not_after=began + 21 * DAY + dt.timedelta(minutes=3))
    lb = build("a:80", tls=path, dated=True)
    lb.wait(120)
    assert said == []
    lb.wait(120)
    assert said == [f"listener default: {path}: expires in 20 days, on {began + 21 * DAY:%Y-%m-%d}"]
