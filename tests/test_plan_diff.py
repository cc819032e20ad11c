"""What a plan says before it is applied."""

from house import House

from twisted_lb.config.policies import PolicyTable
from twisted_lb.plan_diff import diff_of, differences


def lines(build_from: dict, change: dict, *, without: tuple[str, ...] = ()) -> list[str]:
    """What is said where a house of these options gets those."""
    house = House(**build_from)
    for key in without:
        house._options.pop(key)
    said = diff_of(house.plane, house.plan(**change)).lines
    house.close()
    return said


def test_nothing_has_changed_where_everything_is_equal():
    assert lines({}, {}) == ["nothing has changed"]


def test_what_has_changed_is_said_by_key_with_old_and_new_value():
    assert lines({}, {"timeouts": {"connect_s": 2.0, "drain_s": 9.0}, "policy": "rand"}) == [
        "changes pool default: policy rr -> rand, timeouts.connect_s 5 -> 2",
        "changes timeouts.drain_s 8 -> 9",
        "keeps 1 listener, 1 route as before; connections cut: 0",
    ]


def test_backends_that_come_go_and_change_are_said_by_name():
    assert lines({"backends": ["a:80", "b:80"]}, {"backends": ["c:80", "b:80,weight=3"]})[0] == (
        "changes pool default: +c:80, -a:80, b:80 weight 1 -> 3"
    )
    assert lines({"backends": ["a:80", "b:80"]}, {"backends": ["b:80", "a:80"]})[0] == (
        "changes pool default: backends in the order b:80, a:80"
    )


def test_a_backends_own_limit_is_said_as_the_file_has_it():
    def own(limit) -> dict:
        return {"backends": [{"address": "a:80", **({} if limit is None else {"max_in_flight": limit})}]}

    for was, now, said in (
        (None, 4, "that of its pool -> 4"),
        (4, "adaptive", "4 -> adaptive"),
        ("adaptive", None, "adaptive -> that of its pool"),
    ):
        assert lines(own(was), own(now))[0] == f"changes pool default: a:80 max_in_flight {said}"


def test_what_may_be_a_secret_is_not_shown():
    def health(word: str) -> dict:
        return {"health_check": {"interval_s": 1.0, "headers": {"Authorization": word}}}

    def route(word: str) -> dict:
        return {"routes": [{"name": "r", "pool": "default", "set_request_headers": {"X-Key": word}}]}

    said = lines({**health("old"), **route("old")}, {**health("new"), **route("new")})
    assert said[:2] == [
        "changes route r: set_request_headers: other values",
        "changes pool default: health_check.headers: other values",
    ]


def test_tables_are_shown_by_what_they_say():
    one = {"name": "r", "pool": "default", "split_by": None}
    before = {"routes": [{**one, "rate_limits": {"per_s": 1.0}, "clients": ["10.0.0.0/8"]}]}
    after = {
        "routes": [
            {**one, "rate_limits": {"per_s": 1.0, "key": {"header": "X-User"}, "burst": 3}, "clients": ["10.0.0.0/9"]}
        ]
    }
    assert lines(before, after)[0] == (
        "changes route r: rate_limits [{ per_s = 1 }] -> [{ per_s = 1, burst = 3, key = { header = X-User } }], "
        "clients [10.0.0.0/8] -> [10.0.0.0/9]"
    )
    answer = {"routes": [{"name": "r", "answer": {"status": 503, "text": "closed"}}]}
    assert lines(answer, {"routes": [{"name": "r", "deny": True}]})[0] == (
        "changes route r: answer { status = 503, text = closed } -> none, deny false -> true"
    )


def test_of_long_lists_it_is_said_who_comes_and_who_goes():
    unix = {"address": "unix:/run/lb/a-name-that-is-rather-long.sock", "mode": "0600"}
    web = {"address": ["127.0.0.1:80", unix, "127.0.0.1:81"]}
    house = {"listen": {"port": 8080}, "listeners": {"web": web}}
    said = lines(house, {"listeners": {"web": {"address": ["127.0.0.1:82", unix["address"], "127.0.0.1:80"]}}})
    assert said[0] == (
        "changes listener web: address +127.0.0.1:82, +unix:/run/lb/a-name-that-is-rather-long.sock, "
        "-{ address = unix:/run/lb/a-name-that-is-rather-long.sock, mode = 0600 }, -127.0.0.1:81"
    )
    said = lines(house, {"listeners": {"web": {"address": [*reversed(web["address"])]}}})
    assert said[0] == "changes listener web: address in another order"


WEB = {"listeners": {"web": {"address": ["127.0.0.1:80", "unix:/run/lb"], "default_pool": "api"}}}
API = {"pools": {"api": {"backends": ["b:80"]}}}


def test_what_comes_is_said():
    said = lines({"listen": {"port": 8080}}, {**WEB, **API})
    assert [line for line in said if line.startswith("adds ")] == [
        "adds listener web on 127.0.0.1:80, unix:/run/lb",
        "adds route of all other requests to api",
        "adds pool api: b:80",
    ]
    assert said[-1] == "keeps 1 route, 1 pool as before; connections cut: 0"


def test_what_goes_is_said_and_a_pool_that_is_called_otherwise_goes_and_comes():
    house = {"listen": {"port": 8080}, **WEB, **API}
    more = {
        "pools": {"app": API["pools"]["api"]},
        "listeners": {"web": {"address": "127.0.0.1:80", "default_pool": "app"}},
    }
    said = lines(house, more, without=("pools", "listeners"))
    assert {
        "adds pool app: b:80",
        "removes pool api: b:80",
        "adds route of all other requests to app",
        "removes route of all other requests to api",
    } <= {*said}
    assert any(line.startswith("changes listener web: ") for line in said)


def test_of_many_backends_their_number_is_said():
    many = [f"b{number}:80" for number in range(9)]
    said = lines({"listen": {"port": 8080}}, {**WEB, "pools": {"api": {"backends": many}}})
    assert "adds pool api: 9 backends" in said


def test_the_content_of_files_is_not_shown(tmp_path):
    page = tmp_path / "503.html"
    page.write_text("old")
    house = House(error_pages={"503": str(page)})
    page.write_text("new")
    said = diff_of(house.plane, house.plan()).lines
    assert [line for line in said if "changes" in line] == [
        "changes listener default: error_pages.503: other content",
        "changes route default: error_pages.503: other content",
    ]
    house.close()


def test_the_content_of_an_answer_is_not_shown(tmp_path):
    page = tmp_path / "closed.html"
    page.write_text("old")
    house = House(routes=[{"name": "closed", "answer": {"file": str(page)}}])
    page.write_text("new")
    said = diff_of(house.plane, house.plan()).lines
    assert [line for line in said if "changes" in line] == ["changes route closed: files: other content"]
    house.close()


def test_runtime_changes_that_are_kept_or_dropped_are_said():
    house = House("a:80", "b:80,weight=3")
    house.plane.set_weight("default", "b:80", 0)
    house.plane.set_weight("default", "a:80", 7)
    assert diff_of(house.plane, house.plan(backends=["a:80", "b:80,weight=2"])).lines == [
        "changes pool default: b:80 weight 3 -> 2",
        "drops: weight 0 of b:80",
        "keeps what was changed at run time: weight 7 of a:80",
        "keeps 1 listener, 1 route as before; connections cut: 0",
    ]
    house.close()


def test_values_are_shown_on_one_line_and_not_at_length():
    assert list(differences("a\nb", None, "x")) == ["x a\\nb -> none"]
    [line] = differences(("long" * 100,), True, "x")
    assert (len(line) < 100, line.endswith("... -> true")) == (True, True)


def test_tables_are_shown_as_the_file_has_them_and_each_difference_once():
    web = {"listeners": {"web": {"address": "127.0.0.1:80"}}, **API}
    before = {"listen": {"port": 8080}, **web, "routes": [{"name": "r", "pool": "api", "path": "/a"}]}
    limits = [{"per_s": 0.5, "burst": 4}, {"per_s": 2, "key": {"header": "X-User"}}]
    route = {"name": "r", "split": {"api": 9, "default": 1}, "clients": ["10.0.0.0/8"], "rate_limits": limits}
    listener = {"address": ["127.0.0.1:81", {"address": "unix:/run/lb", "mode": "0660"}]}
    said = lines(before, {"routes": [route], "listeners": {"web": listener}})
    assert said[:2] == [
        "changes listener web: address [127.0.0.1:80] -> [127.0.0.1:81, { address = unix:/run/lb, mode = 0660 }]",
        (
            "changes route r: rate_limits [] -> [{ per_s = 0.5, burst = 4 }, { per_s = 2, key = { header = X-User } }], "
            "path [/a] -> [], clients [] -> [10.0.0.0/8], pool api -> none, split none -> { api = 9, default = 1 }"
        ),
    ]


def test_a_policy_by_prefix_is_said_with_what_is_not_as_usual():
    table = PolicyTable("prefix", "requests", load_factor=2.0, peek_bytes=8192)
    assert lines({"policy": "rr"}, {"policy": table})[0] == (
        "changes pool default: policy rr -> prefix, load_factor 2, peek_bytes 8192"
    )
    assert lines({"policy": table}, {"policy": "prefix"})[0] == (
        "changes pool default: policy prefix, load_factor 2, peek_bytes 8192 -> prefix"
    )
