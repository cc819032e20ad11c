"""What our defaults cost against tuned settings, and when that is too much."""

from dataclasses import asdict

import bench
import pytest
from yardstick.contenders import CONTENDERS, TWINS, chosen, find
from yardstick.defaults import complaint, of_ours, told
from yardstick.place import CONF, Place
from yardstick.rounds import Sample
from yardstick.scenarios import SCENARIOS


def measured(*pairs: tuple[float, float], name: str = "compiled", void: str = "") -> dict:
    """Rounds with these costs, tuned and by default."""
    rounds = [
        {name: asdict(Sample(us=tuned)), f"{name} default": asdict(Sample(us=default, void=void))}
        for tuned, default in pairs
    ]
    return {"rounds": rounds, "reference": "haproxy"}


def test_it_is_the_median_of_the_rounds_with_its_range():
    found = of_ours({"small-1000": measured((20, 25), (40, 40), (19, 20))})
    assert told(found) == "compiled, tuned over default (at least 0.95): small-1000 0.95 (0.80..1.00)"
    assert complaint(found) is None


def test_each_build_has_a_line_and_each_scenario_a_place_in_it():
    measurements = {
        "small-64": measured((20, 20))
        | {"rounds": [measured((20, 20))["rounds"][0] | measured((30, 20), name="pure")["rounds"][0]]},
        "small-1": measured((10, 20)),
        "memory": {"contenders": {}},
    }
    assert told(of_ours(measurements)).splitlines() == [
        "compiled, tuned over default (at least 0.95): small-1 0.50 (0.50..0.50), small-64 1.00 (1.00..1.00)",
        "pure, tuned over default (at least 0.95): small-64 1.50 (1.50..1.50)",
    ]


@pytest.mark.parametrize(
    ("measurements", "wrong"),
    [
        ({}, "ours was not measured both tuned and by default"),
        ({"small-64": measured((20, 20), name="haproxy")}, "ours was not measured both tuned and by default"),
        ({"small-64": measured((20, 20.9))}, None),
        ({"small-64": measured((20, 21.2))}, "compiled in small-64 0.94 (0.94..0.94)"),
        ({"small-64": measured((20, 20), void="ended")}, "compiled in small-64 void"),
        (
            {"small-64": measured((20, 20)), "up-64k": measured((9, 10), name="pure")},
            "pure in up-64k 0.90 (0.90..0.90)",
        ),
    ],
)
def test_strict_fails_where_it_costs_more_than_five_percent_and_where_nobody_knows(measurements, wrong, capsys):
    assert bench.judged(measurements, strict=True) == (wrong is not None)
    assert (wrong or "") in capsys.readouterr().err
    assert bench.judged(measurements, strict=False) == 0
    assert capsys.readouterr().err == ""


def test_everybody_who_can_be_tuned_has_a_twin():
    assert [*TWINS] == [f"{name} default" for name in ("compiled", "pure", "haproxy", "nginx", "envoy", "caddy")]
    assert find("haproxy default").program == find("haproxy").program
    assert bench.introduced(find("haproxy default"), "3.4.1") == "HAProxy, by default: 3.4.1"


@pytest.mark.parametrize(
    ("asked", "settings", "names"),
    [
        (["haproxy", "relay"], "both", ["haproxy", "haproxy default", "relay"]),
        (["haproxy", "relay"], "tuned", ["haproxy", "relay"]),
        (["haproxy", "relay"], "default", ["haproxy default"]),
        (["haproxy default"], "both", ["haproxy default"]),
        (["haproxy default", "nginx"], "tuned", ["haproxy default", "nginx"]),
        (["haproxy", "haproxy default"], "both", ["haproxy", "haproxy default"]),
    ],
)
def test_who_is_asked_for_is_measured_as_is_asked_for(asked, settings, names):
    assert chosen(asked, settings) == names


def test_where_nobody_is_tuned_only_scenarios_are_measured(capsys):
    assert bench.measurable(["small-64", "start", "rate-70"], [find("haproxy default")]) == ["small-64"]
    assert capsys.readouterr().err == "bench: start, rate-70: only for who is tuned, and nobody is\n"
    assert bench.measurable(["small-64", "start"], [find("haproxy")]) == ["small-64", "start"]


def test_a_crowd_of_keep_alive_clients_is_among_the_scenarios():
    crowd = SCENARIOS["small-1000"]
    assert (crowd.connections, crowd.at_once, crowd.close) == (1000, 1000, False)


@pytest.mark.parametrize("name", TWINS)
def test_by_default_nothing_is_told_but_where_and_to_whom(name, tmp_path):
    place = Place(tmp_path, "127.0.0.1", 4711, ("127.0.0.1:20000", "127.0.0.1:20001"))
    twin = TWINS[name]
    assert len((CONF / twin.default_template).read_text()) < len((CONF / twin.template).read_text())
    twin.words(place)
    (file,) = tmp_path.iterdir()
    told = file.read_text()
    assert "@" not in told.replace('"@type"', "")
    assert all(word in told for word in ("127.0.0.1", "4711", "20000", "20001"))
    tuning = ("keepalive", "max_idle", "max_fails", "http-reuse", "circuit_breakers", "idle", "worker_connections")
    assert not [word for word in tuning if word in told]


def test_tuned_stays_what_it_was(tmp_path):
    place = Place(tmp_path, "127.0.0.1", 4711, ("127.0.0.1:20000",))
    CONTENDERS["nginx"].words(place)
    assert "server 127.0.0.1:20000 max_fails=0;" in (tmp_path / "4711-nginx.conf").read_text()
