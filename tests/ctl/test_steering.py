"""`lbctl drain`, `maint`, `ready`, `weight`, `limit`, `add`, `remove`, `reset`: what is asked of the API, and what is said."""

import json

import pytest
from ctl_house import HangUp, Problem
from ctl_sample import backend, status

B3 = next(one for one in status()["pools"][0]["backends"] if one["name"] == "app/b3")
PATCH = "PATCH /v1/backends/app/b3"


def drained(requests, tunnels, name="app/b3"):
    one = next(one for pool in status()["pools"] for one in pool["backends"] if one["name"] == name)
    return one | {
        "admin": "drain",
        "state": "drained",
        "in_flight": requests + tunnels,
        "tunnels": tunnels,
        "usable": False,
    }


def answer(one):
    return {
        "backend": one,
        "changes": ["ready → drain"],
        "follows": ["4 requests and 2 tunnels go on", "app keeps 3 of 4", "new load on the other three +33 %"],
    }


def listed(*ones):
    return {"backends": list(ones)}


def at(api, clock, *steps):
    """What GET /v1/backends says from which moment on."""

    def now():
        return listed(*[ones for since, ones in steps if clock.now - 1000 >= since - 1e-6][-1])

    api.answers["GET /v1/backends"] = now


@pytest.fixture
def leaving(api, lbctl):
    """app/b3, which is asked to drain, and empties within 11.2 s."""
    api.answers[PATCH] = answer(drained(4, 2))
    lbctl.clock.slept = lambda: None
    steps = [(0, 4, 2), (0.3, 2, 2), (1.9, 0, 2), (6.4, 0, 1), (11.2, 0, 0)]
    at(api, lbctl.clock, *((since, [drained(requests, tunnels)]) for since, requests, tunnels in steps))
    return lbctl


def test_drain_in_a_pipe_says_each_change_on_a_line(leaving):
    assert leaving("drain", "app/b3", "--wait", "30s", "--reason", "deploy") == 0
    assert leaving.both == (
        "app/b3: ready → drained\n"
        "app/b3: 4 requests and 2 tunnels left, 0.0 s\n"
        "app/b3: 2 requests and 2 tunnels left, 0.5 s\n"
        "app/b3: 2 tunnels left, 2.0 s\n"
        "app/b3: 1 tunnel left, 6.5 s\n"
        "app/b3: empty after 11.2 s\n"
    )
    assert leaving.out == "app/b3: ready → drained\napp/b3: empty after 11.2 s\n"
    assert leaving.api.asked[1] == ("PATCH", "/v1/backends/app/b3", {"admin": "drain", "reason": "deploy"})


def test_drain_on_a_terminal_rewrites_one_line(leaving):
    assert leaving("drain", "app/b3", "--wait", "30s", "--color", "never", terminal=True) == 0
    assert leaving.out == (
        "app/b3: ready → drained; no new request can arrive now\n"
        "        app keeps 3 of 4; new load on the other three +33 %\n"
        "app/b3: empty after 11.2 s; 4 requests and 2 tunnels ended, none was cut\n"
    )
    assert "\rapp/b3: ◐ 2 tunnels left, 4 s of 30 s\x1b[K" in leaving.err
    assert "\n" not in leaving.err


def test_drain_without_a_wait_says_what_goes_on(leaving):
    assert leaving("drain", "b3", "--color", "never", terminal=True) == 0
    assert leaving.out == (
        "app/b3: ready → drained; no new request can arrive now\n"
        "        4 requests and 2 tunnels go on; app keeps 3 of 4; new load on the other three +33 %\n"
    )


def test_a_drain_waits_until_nothing_comes_any_more_that_is_bound_there(api, lbctl):
    kept = [drained(0, 0) | {"keeps_own_s": left} for left in (20.0, 12.4, 0.0)]
    said = answer(kept[0])
    api.answers[PATCH] = said | {"follows": ["what is bound to it still comes, for 20 s (affinity.drain_s)"]}
    at(api, lbctl.clock, (0, [kept[0]]), (7.6, [kept[1]]), (20, [kept[2]]))
    assert lbctl("drain", "app/b3", "--wait", "30s") == 0
    assert lbctl.both == (
        "app/b3: ready → drained\n"
        "app/b3: keeps its own for 20 s (affinity), 0.0 s\n"
        "app/b3: keeps its own for 12 s (affinity), 7.8 s\n"
        "app/b3: empty after 20.0 s\n"
    )
    api.answers[PATCH] = answer(kept[0])
    assert lbctl("drain", "app/b3", "--color", "never", terminal=True) == 0
    assert lbctl.out.startswith("app/b3: ready → drained; no new client can come now\n")


def test_time_over_says_what_is_left_and_ends_with_5(api, lbctl):
    api.answers[PATCH] = answer(drained(4, 2))
    at(api, lbctl.clock, (0, [drained(0, 1)]))
    assert lbctl("drain", "app/b3", "--wait", "30s") == 5
    assert lbctl.both.endswith(
        "app/b3: 30 s are over; left: 1 tunnel\n        It stays drained. Wait on: lbctl drain app/b3 --wait 5m\n"
    )


def test_a_wait_of_no_time_looks_once(api, lbctl):
    api.answers[PATCH] = answer(drained(1, 0))
    assert lbctl("drain", "app/b3", "--wait", "0") == 5
    api.answers[PATCH] = answer(drained(0, 0))
    assert lbctl("drain", "app/b3", "--wait", "0") == 0


def names(left):
    return [drained(in_flight, 0, name) for name, in_flight in left.items()]


@pytest.fixture
def several(api, lbctl):
    """Four backends, of which two have requests."""
    left = {"api/a1": 3, "api/a10": 0, "api/a11": 1, "api/a12": 0}
    for one in names(left):
        api.answers[f"PATCH /v1/backends/{one['name']}"] = answer(one)
    at(api, lbctl.clock, (0, names(left)), (7.2, names(dict.fromkeys(left, 0))))
    return lbctl


def test_a_glob_drains_several_each_on_its_line(several):
    assert several("drain", "api/a1*", "--wait", "60s", "--color", "never", terminal=True) == 0
    pictures = several.err.replace("\x1b[K", "").split("\x1b[J")
    assert (
        "\x1b[4A\r"
        "api/a1:  ◐ 3 requests left\r\n"
        "api/a10: ◐ empty\r\n"
        "api/a11: ◐ 1 request left\r\n"
        "api/a12: ◐ empty\r\n"
        "2 of 4 are empty, 7 s of 60 s"
    ) in pictures
    assert pictures[-2].endswith("4 of 4 are empty, 7 s of 60 s")
    patched = [path for method, path, _ in several.api.asked if method == "PATCH"]
    assert patched == [f"/v1/backends/api/{one}" for one in ("a1", "a10", "a11", "a12")]


def test_several_in_a_pipe_end_with_how_many(several):
    assert several("drain", "api/a1*", "--wait", "60s") == 0
    assert several.both.splitlines()[4:] == [
        "api/a1: 3 requests left, 0.0 s",
        "api/a10: empty after 0.0 s",
        "api/a11: 1 request left, 0.0 s",
        "api/a12: empty after 0.0 s",
        "api/a1: empty after 7.2 s",
        "api/a11: empty after 7.2 s",
        "4 of 4 are empty after 7.2 s",
    ]


LAST = Problem(
    409,
    "last_usable",
    "app/b4 is the last usable backend of app; every request to app would be refused (353 a second now).",
    hint="--force",
)


def test_the_last_usable_backend_is_refused(api, lbctl):
    api.answers["PATCH /v1/backends/app/b4"] = LAST
    assert lbctl("drain", "app/b4") == 1
    assert lbctl.err == (
        "lbctl: refused: app/b4 is the last usable backend of app; every request to app\n"
        "       would be refused (353 a second now). Nothing was changed.\n"
        "       All the same: --force\n"
    )
    assert lbctl.out == ""


def test_force_is_handed_on(api, lbctl):
    api.answers["PATCH /v1/backends/app/b4"] = answer(drained(0, 0, "app/b4"))
    assert lbctl("drain", "app/b4", "--force") == 0
    assert api.asked[-1][2] == {"admin": "drain", "force": True}


def test_a_whole_pool_is_refused_before_its_first_backend_is_touched(api, lbctl):
    assert lbctl("drain", "app/*") == 1
    assert lbctl.err == (
        "lbctl: refused: app/b1, app/b2, app/b3, app/b4 are the last usable backends of\n"
        "       app; every request to app would be refused (353 a second now). Nothing\n"
        "       was changed.\n"
        "       All the same: --force\n"
    )
    assert [method for method, *_ in api.asked] == ["GET"]


@pytest.mark.parametrize("words", [("weight", "app/*", "0"), ("remove", "app/*"), ("maint", "app/*")])
def test_so_is_one_that_is_taken_out_in_another_way(api, lbctl, words):
    assert lbctl(*words) == 1
    assert "are the last usable backends of" in lbctl.err
    assert [method for method, *_ in api.asked] == ["GET"]


def test_one_of_several_that_is_refused_does_not_keep_the_others(api, lbctl):
    api.answers[PATCH] = answer(drained(0, 0))
    api.answers["PATCH /v1/backends/app/b4"] = LAST
    assert lbctl("drain", "b3", "b4") == 1
    assert lbctl.out == "app/b3: ready → drained\n"
    assert "is the last usable backend" in lbctl.err


def test_a_pool_whose_only_usable_backend_is_among_several_is_refused_before_any(api, lbctl):
    told = status()
    for one in told["pools"][0]["backends"][1:]:
        one["usable"] = False
    api.answers["GET /v1/status"] = told
    assert lbctl("drain", "b1", "b2") == 1
    assert " ".join(lbctl.err.split()).startswith("lbctl: refused: app/b1 is the last usable backend of app; every")
    assert [method for method, *_ in api.asked] == ["GET"]


def test_what_the_api_says_itself_is_not_said_twice(api, lbctl):
    detail = "app/b4 is the last usable backend of app. Nothing was changed."
    api.answers["PATCH /v1/backends/app/b4"] = Problem(409, "last_usable", detail)
    assert lbctl("drain", "b4") == 1
    assert lbctl.err.count("Nothing was changed.") == 1


def test_ready_in_vain_says_what_it_waits_for(api, lbctl):
    down = B3 | {"usable": False, "state": "down"}
    api.answers[PATCH] = {"backend": down, "changes": ["drain → ready"], "follows": []}
    at(api, lbctl.clock, (0, [down]))
    assert lbctl("ready", "app/b3", "--wait", "1s") == 5
    assert lbctl.both.endswith(
        "app/b3: 1 s are over; still: down\n"
        "        Requests go there as soon as its state allows. Wait on: lbctl ready app/b3 --wait 5m\n"
    )


def test_a_name_that_is_not_there_ends_with_4_and_a_suggestion(lbctl):
    assert lbctl("drain", "app/b33") == 4
    assert lbctl.err == 'lbctl: there is no backend "app/b33"; did you mean "app/b3"?\n'
    assert lbctl("drain", "zz*") == 4
    assert lbctl.err == 'lbctl: no backend matches "zz*"\n'


def test_a_backend_alone_must_be_unique(api, lbctl):
    told = status()
    told["pools"][2]["backends"][0] |= {"name": "static/b3", "backend": "b3"}
    api.answers["GET /v1/status"] = told
    assert lbctl("drain", "b3") == 4
    assert lbctl.err == 'lbctl: there is more than one backend "b3": app/b3 or static/b3\n'


def test_a_name_with_signs_of_its_own_is_encoded(api, lbctl):
    told = status()
    odd = "unix:/run/a b.sock"
    told["pools"][0]["backends"][0] |= {"name": f"app/{odd}", "backend": odd}
    api.answers["GET /v1/status"] = told
    api.answers["PATCH /v1/backends/app/unix%3A%2Frun%2Fa%20b.sock"] = answer(drained(0, 0))
    assert lbctl("drain", odd) == 0


def test_what_is_drained_already_is_no_mistake(api, lbctl):
    api.answers[PATCH] = {"backend": drained(0, 0), "changes": [], "follows": []}
    assert lbctl("drain", "app/b3") == 0
    assert lbctl.out == "app/b3: is drained already\n"


def test_a_drained_backend_is_called_so_when_it_comes_back(api, lbctl):
    api.answers[PATCH] = {"backend": B3, "changes": ["drain → ready"], "follows": []}
    assert lbctl("ready", "app/b3", "--wait", "5s") == 0
    assert lbctl.out == "app/b3: drained → ready\napp/b3: usable after 0.0 s\n"


def test_ready_waits_until_checks_have_passed(api, lbctl):
    down = B3 | {"usable": False, "state": "down"}
    api.answers[PATCH] = {"backend": down, "changes": ["drain → ready"], "follows": []}
    at(api, lbctl.clock, (0, [down]), (2, [B3]))
    assert lbctl("ready", "app/b3", "--wait", "5s") == 0
    assert lbctl.both == "app/b3: drained → ready\napp/b3: down, 0.0 s\napp/b3: usable after 2.0 s\n"


def test_maint_says_that_nobody_checks(api, lbctl):
    api.answers[PATCH] = {"backend": drained(0, 0) | {"state": "maint"}, "changes": ["ready → maint"], "follows": []}
    assert lbctl("maint", "app/b3", "--color", "never", terminal=True) == 0
    assert lbctl.out == "app/b3: ready → maint; no new request can arrive now, and nobody checks it\n"


def test_a_daemon_that_dies_while_it_is_waited_for_ends_with_3(api, lbctl):
    api.answers[PATCH] = answer(drained(1, 0))
    api.answers["GET /v1/backends"] = HangUp()
    assert lbctl("drain", "app/b3", "--wait", "30s") == 3
    assert lbctl.err.splitlines()[1:3] == [
        "lbctl: no daemon answers; tried",
        f"       unix:{api.path}: Remote end closed connection without response",
    ]


def test_an_interrupt_ends_the_wait_and_says_that_the_drain_stays(api, lbctl):
    api.answers[PATCH] = answer(drained(1, 0))
    api.answers["GET /v1/backends"] = listed(drained(1, 0))

    def interrupt():
        raise KeyboardInterrupt

    lbctl.clock.slept = interrupt
    assert lbctl("drain", "app/b3", "--wait", "30s") == 130
    assert lbctl.err.endswith("It stays drained. Wait on: lbctl drain app/b3 --wait 5m\n")


def test_json_is_the_answer_with_what_is_left_at_the_end(leaving):
    assert leaving("drain", "app/b3", "--wait", "30s", "--json") == 0
    told = json.loads(leaving.out)
    assert (told["changes"], told["backend"]["tunnels"], told["time_over"]) == (["ready → drain"], 0, False)
    assert leaving.err == ""


def test_json_of_a_refusal_is_the_problem(api, lbctl):
    api.answers["PATCH /v1/backends/app/b4"] = LAST
    assert lbctl("drain", "app/b4", "--json") == 1
    assert json.loads(lbctl.out)["code"] == "last_usable"


@pytest.mark.parametrize("typed", ["soon", "-1s", "5 parsecs", ""])
def test_a_wait_that_is_no_duration_is_a_mistake_of_usage(lbctl, typed):
    assert lbctl("drain", "app/b3", f"--wait={typed}") == 2
    assert "a duration is like 30s, 500ms, 5m or 1h" in " ".join(lbctl.err.split())


def test_weight_says_what_it_was_and_is(api, lbctl):
    api.answers[PATCH] = {"backend": B3 | {"weight": 3}, "changes": ["weight 1 → 3"], "follows": []}
    assert lbctl("weight", "app/b3", "3", "--reason", "bigger machine") == 0
    assert lbctl.out == "app/b3: weight 1 → 3\n"
    assert api.asked[-1][2] == {"weight": 3, "reason": "bigger machine"}


@pytest.mark.parametrize("typed", ["x", "1.5", "²", "257"])
def test_a_weight_is_a_whole_number(lbctl, typed):
    assert lbctl("weight", "app/b3", typed) == 2
    assert "a weight is a whole number from 0 to 256" in " ".join(lbctl.err.split())


def test_limit_says_what_it_was_and_is(api, lbctl):
    api.answers[PATCH] = {"backend": B3 | {"limit": 50}, "changes": ["limit 0 → 50"], "follows": []}
    assert lbctl("limit", "app/b3", "50", "--reason", "small machine") == 0
    assert lbctl.out == "app/b3: limit 0 → 50\n"
    assert api.asked[-1][2] == {"limit": 50, "reason": "small machine"}


def test_a_limit_may_be_adaptive(api, lbctl):
    api.answers[PATCH] = {"backend": B3 | {"limit": 4}, "changes": ["limit 0 → adaptive"], "follows": []}
    assert lbctl("limit", "app/b3", "adaptive") == 0
    assert (lbctl.out, api.asked[-1][2]) == ("app/b3: limit 0 → adaptive\n", {"limit": "adaptive"})


def test_a_limit_that_it_has_is_said(api, lbctl):
    api.answers[PATCH] = {"backend": B3 | {"limit": 50}, "changes": [], "follows": []}
    assert lbctl("limit", "app/b3", "50") == 0
    assert lbctl.out == "app/b3: has limit 50 already\n"


@pytest.mark.parametrize("typed", ["-1", "1000001", "1.5", "x", "", "٣"])
def test_a_limit_is_a_whole_number(lbctl, typed):
    assert lbctl("limit", "app/b3", typed) == 2
    assert "a limit, if not adaptive, is a whole number from 0 to 1000000" in " ".join(lbctl.err.split())


def test_add_hands_on_what_was_typed_alone(api, lbctl):
    new = backend("app/b9 10.0.0.19:8000 2 64 0 0 0 0 0 0 - - - 1.0") | {"state": "unknown"}
    api.answers["POST /v1/pools/app/backends"] = {"backend": new}
    assert lbctl("add", "app", "10.0.0.19:8000", "--name", "b9", "--weight", "2") == 0
    assert lbctl.out == "app/b9: added, 10.0.0.19:8000; unknown\n"
    assert api.asked[-1][2] == {"address": "10.0.0.19:8000", "name": "b9", "weight": 2}
    assert lbctl("add", "ap", "10.0.0.19:8000") == 4
    assert lbctl.err == 'lbctl: there is no pool "ap"; did you mean "app"?\n'


def test_add_hands_on_level_and_labels(api, lbctl):
    new = backend("app/b9 10.0.0.19:8000 2 64 0 0 0 0 0 0 - - - 1.0") | {"state": "standby"}
    api.answers["POST /v1/pools/app/backends"] = {"backend": new}
    assert lbctl("add", "app", "b9:80", "--priority", "1", "--label", "zone=a", "--label", "rack=r=1") == 0
    assert api.asked[-1][2] == {"address": "b9:80", "priority": 1, "labels": {"zone": "a", "rack": "r=1"}}
    assert lbctl("add", "app", "b9:80", "--backup") == 0
    assert api.asked[-1][2] == {"address": "b9:80", "backup": True}


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (("--priority", "129"), "a priority is a whole number from 0 to 128, not '129'"),
        (("--label", "zone"), "a label is NAME=VALUE, not 'zone'"),
        (("--label", "=a"), "a label is NAME=VALUE, not '=a'"),
    ],
)
def test_add_says_what_is_no_level_and_no_label(lbctl, typed, said):
    assert lbctl("add", "app", "b9:80", *typed) == 2
    assert said in " ".join(lbctl.err.split())


def test_add_refused_says_the_words_of_the_api(api, lbctl):
    api.answers["POST /v1/pools/app/backends"] = Problem(409, "exists", 'pool app has a backend "b3"', hint="--name")
    assert lbctl("add", "app", "10.0.0.13:8000") == 1
    assert lbctl.err == 'lbctl: refused: pool app has a backend "b3"\n       --name\n'


REMOVED = {"removed": "app/b3", "left": {"requests": 0, "tunnels": 1}, "follows": []}


def test_remove_says_what_goes_on(api, lbctl):
    api.answers["DELETE /v1/backends/app/b3"] = REMOVED
    assert lbctl("remove", "app/b3", "--reason", "too old") == 0
    assert lbctl.out == "app/b3: removed; 1 tunnel goes on\n"
    assert api.asked[-1][1] == "/v1/backends/app/b3?reason=too old"


def test_remove_waits_by_the_api(api, lbctl):
    api.answers["DELETE /v1/backends/app/b3"] = REMOVED | {"left": {"requests": 0, "tunnels": 0}}
    assert lbctl("remove", "app/b3", "--wait", "500ms") == 0
    assert lbctl.out == "app/b3: removed; empty\n"
    assert api.asked[-1][1] == "/v1/backends/app/b3?wait=0.500s"
    api.answers["DELETE /v1/backends/app/b3"] = REMOVED | {"time_over": True}
    assert lbctl("remove", "app/b3", "--wait", "5s", "--force") == 5
    assert lbctl.out == "app/b3: removed; 5 s are over; left: 1 tunnel\n"


def test_reset_of_one_and_of_all(api, lbctl):
    api.answers["DELETE /v1/backends/api/a4/changes"] = {"backend": None, "changes": ["drain of api/a4"]}
    assert lbctl("reset", "api/a4") == 0
    assert lbctl.out == "api/a4: 1 runtime change dropped: drain of api/a4\n"
    api.answers["DELETE /v1/changes"] = {"changes": []}
    assert lbctl("reset", "--reason", "over") == 0
    assert lbctl.out == "nothing to reset\n"
    assert api.asked[-1][1] == "/v1/changes?reason=over"


def test_a_reset_that_leaves_nobody_is_refused_unless_forced(api, lbctl):
    refused = Problem(409, "last_usable", "app has no usable backend without these changes. Nothing was changed.")
    api.answers["DELETE /v1/changes"] = refused
    assert lbctl("reset") == 1
    assert "All the same: --force" in lbctl.err
    api.answers["DELETE /v1/changes"] = {"changes": ["added of app/x"]}
    assert lbctl("reset", "--force") == 0
    assert api.asked[-1][1] == "/v1/changes?force=1"
    api.answers["DELETE /v1/backends/api/a4/changes"] = {"backend": None, "changes": ["drain of api/a4"]}
    assert lbctl("reset", "api/a4", "--force", "--reason", "x") == 0
    assert api.asked[-1][1] == "/v1/backends/api/a4/changes?reason=x&force=1"


def test_reset_finds_a_backend_that_a_runtime_change_has_removed(api, lbctl):
    told = status()
    told["changes"].append({"at": 1.0, "actor": "bob", "subject": "app/b0", "change": "removed", "reason": ""})
    api.answers["GET /v1/status"] = told
    api.answers["DELETE /v1/backends/app/b0/changes"] = {"backend": B3, "changes": ["removal of app/b0"]}
    assert lbctl("reset", "app/b0") == 0


@pytest.fixture
def endpoints(api):
    """A backend of two addresses."""
    told = status()
    found = [
        B3 | {"name": f"app/b3@10.0.0.{n}:80", "backend": f"b3@10.0.0.{n}:80", "in_flight": n + 1, "tunnels": 1}
        for n in (1, 2)
    ]
    told["pools"][0]["backends"][2:3] = found
    api.answers["GET /v1/status"] = told
    api.answers["GET /v1/backends"] = listed(*(one | {"in_flight": 0, "tunnels": 0} for one in found))
    return found


def test_a_backend_of_several_addresses_is_one_by_its_name(api, lbctl, endpoints):
    api.answers[PATCH] = answer(endpoints[0]) | {"backends": endpoints}
    for name in ("app/b3", "b3", "app/b3*"):
        assert lbctl("drain", name, "--wait", "30s") == 0
        assert lbctl.both == (
            "app/b3: ready → drained\napp/b3: 3 requests and 2 tunnels left, 0.0 s\napp/b3: empty after 0.2 s\n"
        )


def test_and_each_of_its_addresses_can_be_drained_alone(api, lbctl, endpoints):
    api.answers["PATCH /v1/backends/app/b3%4010.0.0.2%3A80"] = answer(endpoints[1])
    assert lbctl("drain", "b3@10.0.0.2:80") == 0
    assert lbctl.out == "app/b3@10.0.0.2:80: ready → drained\n"


def test_a_weight_is_one_for_all_addresses(api, lbctl, endpoints):
    api.answers[PATCH] = {"backend": endpoints[0], "backends": endpoints, "changes": ["weight 1 → 3"], "follows": []}
    assert lbctl("weight", "app/b3", "3") == 0
    assert lbctl.out == "app/b3: weight 1 → 3\n"
