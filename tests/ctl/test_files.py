"""`lbctl diff`, `reload`, `config` and `check`."""

import json

from ctl_house import Problem
from ctl_sample import CONFIG, LINES, PLAN, VALUES

SAID = "lb.toml against generation 42\n" + "".join(f"{line}\n" for line in LINES)
REPORT = """\
lb.toml:14:1: pools.app.wieght: unknown key; did you mean "weight"?
   14 | wieght = 3
      | ^^^^^^
1 error; lb.toml is refused
"""
BAD = Problem(
    422,
    "bad_configuration",
    "pools.app.wieght: unknown key",
    problems=[{"place": "lb.toml:14:1", "text": "unknown key", "code": "E06"}],
    report=REPORT,
)


def test_diff_says_what_would_change_and_ends_with_1(lbctl, api):
    api.answers["GET /v1/plan"] = PLAN
    assert lbctl("diff") == 1
    assert (lbctl.out, lbctl.err) == (SAID, "")


def test_diff_of_the_same_ends_with_0(lbctl, api):
    api.answers["GET /v1/plan"] = PLAN | {"changed": False, "lines": ["nothing has changed"]}
    assert lbctl("diff") == 0
    assert lbctl.out == "lb.toml is what generation 42 has in force\n"


def test_the_words_of_a_plan_become_signs(lbctl, api):
    lines = [
        "adds pool new: a:80",
        "changes pool app: policy rr → rand",
        "removes listener x on 0.0.0.0:1",
        "drops: weight 2 of app/b9",
        "keeps what was changed at run time: drain of api/a4",
        "keeps 2 pools as before; connections cut: 0",
    ]
    api.answers["GET /v1/plan"] = PLAN | {"lines": lines}
    assert lbctl("diff", "--color", "always") == 1
    assert lbctl.out.splitlines()[1:] == [
        "\x1b[32m+\x1b[0m pool new: a:80",
        "\x1b[33m~\x1b[0m pool app: policy rr → rand",
        "\x1b[31m-\x1b[0m listener x on 0.0.0.0:1",
        "\x1b[31m-\x1b[0m drops weight 2 of app/b9",
        "\x1b[2m= keeps: what was changed at run time: drain of api/a4\x1b[0m",
        "\x1b[2m= keeps: 2 pools as before; connections cut: 0\x1b[0m",
    ]


def test_diff_of_a_bad_file_ends_with_2(lbctl, api):
    api.answers["GET /v1/plan"] = BAD
    assert lbctl("diff") == 2
    assert lbctl.out == REPORT
    assert lbctl.err == "generation 42 goes on unchanged\n"


def test_reload_says_what_it_did(lbctl, api):
    lines = [
        "+ app/b5",
        "~ pools.api.slow_start.window_s",
        "- static/s3 (leaving: 3 requests)",
        "keeps 2 pools as before",
    ]
    api.answers["POST /v1/reload"] = PLAN | {"applied": True, "generation": 43, "lines": lines}
    assert lbctl("reload", "--reason", "deploy") == 0
    assert (
        lbctl.out
        == "generation 43 runs: + app/b5, ~ pools.api.slow_start.window_s, - static/s3 (leaving: 3 requests)\n"
    )
    assert api.asked[-1] == ("POST", "/v1/reload", {"dry_run": False, "reason": "deploy"})


def test_diff_and_reload_say_what_is_doubtful_whether_anything_has_changed_or_not(lbctl, api):
    doubt = "lb.toml:16:8: pools.app.policy: first without max_in_flight   [W21]"
    for changed, status in ((True, 1), (False, 0)):
        api.answers["GET /v1/plan"] = PLAN | {"changed": changed, "warnings": [doubt]}
        assert lbctl("diff") == status
        assert lbctl.out.endswith(f"{doubt}\n")
        api.answers["POST /v1/reload"] = PLAN | {"changed": changed, "warnings": [doubt]}
        assert lbctl("reload") == 0
        assert lbctl.out.endswith(f"{doubt}\n")


def test_a_reload_that_does_much_has_a_line_for_each(lbctl, api):
    lines = [f"adds pool {name * 40}: a:80" for name in "abc"]
    api.answers["POST /v1/reload"] = PLAN | {"generation": 43, "lines": lines}
    assert lbctl("reload") == 0
    assert lbctl.out.splitlines()[:2] == ["generation 43 runs:", f"+ pool {'a' * 40}: a:80"]


def test_a_reload_of_the_same(lbctl, api):
    api.answers["POST /v1/reload"] = PLAN | {"changed": False}
    assert lbctl("reload") == 0
    assert lbctl.out == "nothing has changed; generation 42 goes on\n"


def test_a_reload_of_a_bad_file_ends_with_1_and_what_check_says(lbctl, api):
    api.answers["POST /v1/reload"] = BAD
    assert lbctl("reload") == 1
    assert lbctl.both == REPORT + "generation 42 goes on unchanged\n"
    assert lbctl("reload", "--json") == 1
    assert json.loads(lbctl.out)["problems"][0]["place"] == "lb.toml:14:1"


def test_a_dry_run_changes_nothing_and_says_so(lbctl, api):
    api.answers["GET /v1/plan"] = PLAN
    assert lbctl("reload", "--dry-run") == 0
    assert lbctl.both == SAID + "Nothing was changed.\n"
    assert {method for method, *_ in api.asked} == {"GET"}


def test_config_with_sources(lbctl, api):
    api.answers["GET /v1/config"] = {"values": VALUES}
    assert lbctl("config", "--sources") == 0
    assert lbctl.out == CONFIG


def test_config_without_sources_has_two_columns(lbctl, api):
    values = [
        {"key": "a", "value": [1, "x"], "source": "default"},
        {"key": "b", "value": None, "source": "default"},
        {"key": "c", "value": True, "source": "default"},
    ]
    api.answers["GET /v1/config"] = {"values": values}
    assert lbctl("config") == 0
    assert lbctl.out == 'KEY  VALUE\na    [1, "x"]\nb    –\nc    true\n'


def test_a_long_value_moves_no_other_row_and_hides_no_source_on_a_terminal(lbctl, api):
    values = [{"key": "a", "value": "x" * 200, "source": "lb.toml:1"}, {"key": "b", "value": "y", "source": "default"}]
    api.answers["GET /v1/config"] = {"values": values}
    lbctl("config", "--sources")
    assert lbctl.out.splitlines()[1:] == [f"a    {'x' * 200}  lb.toml:1", f"b    y{' ' * 59}  default"]
    lbctl("config", "--sources", "--color", "never", terminal=True)
    assert lbctl.out.splitlines()[1:] == [f"a    {'x' * 29}…  lb.toml:1", f"b    y{' ' * 29}  default"]


def test_config_styles_what_is_default_and_what_somebody_did(lbctl, api):
    api.answers["GET /v1/config"] = {"values": VALUES}
    lbctl("config", "--sources", "--color", "always")
    assert "\x1b[2mdefault\x1b[0m\n" in lbctl.out
    assert "\x1b[1;34mruntime by alice, 14:09, “bigger machine”\x1b[0m\n" in lbctl.out


FINE = 'backends = ["127.0.0.1:1"]\n[listen]\nport = 8080\n'


def test_check_needs_no_daemon_and_says_what_twistd_lb_check_says(lbctl, monkeypatch, tmp_path):
    monkeypatch.setenv("TWISTED_LB_ADMIN", "unix:/nowhere")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lb.toml").write_text(FINE)
    assert lbctl("check", "lb.toml") == 0
    assert lbctl.out == "no problem; lb.toml can be loaded\n"
    (tmp_path / "lb.toml").write_text(FINE.replace("[listen]", 'polcy = "rr"\n[listen]'))
    assert lbctl("check", "lb.toml", "--color", "always") == 1
    assert lbctl.out == (
        '\x1b[1mlb.toml:2:1\x1b[0m: polcy: unknown key; did you mean "policy"?\n'
        '    2 | polcy = "rr"\n'
        "\x1b[31m      | ^^^^^\x1b[0m\n"
        "1 error; lb.toml is refused\n"
    )
    assert lbctl("check", "lb.toml", "--json") == 1
    assert json.loads(lbctl.out)[0]["code"] == "E06"


def test_check_with_warnings_is_strict_when_asked(lbctl, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lb.toml").write_text(FINE + "[timeouts]\nattempt_s = 90\n")
    assert lbctl("check", "lb.toml") == 0
    assert lbctl("check", "lb.toml", "--strict") == 1


def test_a_file_that_is_not_there_is_a_mistake_of_usage(lbctl, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert lbctl("check", "lb.toml") == 2
    assert "lb.toml" in lbctl.out


OTHER = FINE.replace('["127.0.0.1:1"]', '["127.0.0.1:1", "127.0.0.1:2"]') + "[timeouts]\nconnect_s = 2\n"


def written(monkeypatch, folder, **files):
    monkeypatch.chdir(folder)
    for name, text in files.items():
        (folder / f"{name}.toml").write_text(text)


def test_diff_of_two_files_needs_no_daemon(lbctl, monkeypatch, tmp_path):
    monkeypatch.setenv("TWISTED_LB_ADMIN", "unix:/nowhere")
    written(monkeypatch, tmp_path, old=FINE, new=OTHER, same=FINE)
    assert lbctl("diff", "new.toml", "--against", "old.toml") == 1
    first, *changes = lbctl.out.splitlines()
    assert first == "new.toml against old.toml"
    assert [line for line in changes if "127.0.0.1:2" in line and line.startswith("~ pool")]
    assert changes[-1].startswith("= keeps: ")
    assert lbctl("diff", "same.toml", "--against", "old.toml") == 0
    assert lbctl.out == "same.toml is what old.toml says\n"
    assert lbctl("--json", "diff", "new.toml", "--against", "old.toml") == 1
    said = json.loads(lbctl.out)
    assert (said["file"], said["against"], said["changed"]) == ("new.toml", "old.toml", True)
    assert any("+127.0.0.1:2" in line for line in said["lines"])


def test_diff_of_a_file_is_against_that_of_the_daemon_and_says_what_it_does_not_look_at(
    lbctl, api, monkeypatch, tmp_path
):
    written(monkeypatch, tmp_path, lb=FINE, new=OTHER)
    told = api.answers["GET /v1/status"]()
    told["file"] = {"path": str(tmp_path / "lb.toml"), "changed_s": 178.0}
    api.answers["GET /v1/status"] = told
    api.answers["GET /v1/config"] = {"values": VALUES}
    assert lbctl("diff", "new.toml") == 1
    assert lbctl.out.startswith(f"new.toml against {tmp_path}/lb.toml\n~ ")
    assert lbctl.err == (
        f"{tmp_path}/lb.toml has changed since it was loaded: it is compared as it is now\n"
        "2 runtime changes in force: what becomes of them is not looked at\n"
        "the daemon has flags, which hold over every file: --admin, --attempt-timeout\n"
    )
    api.answers["GET /v1/status"] = told | {"file": None}
    assert lbctl("diff", "new.toml") == 1
    assert lbctl.err == (
        "lbctl: the daemon has no configuration file; name one to compare with\n       --against FILE\n"
    )


def test_diff_of_files_that_cannot_be_loaded_says_what_is_wrong_in_which_and_ends_with_2(lbctl, monkeypatch, tmp_path):
    written(monkeypatch, tmp_path, old=FINE, new=FINE.replace("[listen]", 'polcy = "rr"\n[listen]'))
    for one, other in (("new", "old"), ("old", "new")):
        assert lbctl("diff", f"{one}.toml", "--against", f"{other}.toml") == 2
        assert lbctl.out.startswith('new.toml:2:1: polcy: unknown key; did you mean "policy"?\n')
        assert lbctl.out.endswith("1 error; nothing was compared\n")
    assert lbctl("diff", "old.toml", "--against", "gone.toml") == 2
    assert "gone.toml" in lbctl.out
    assert lbctl("diff", "--json", "gone.toml", "--against", "old.toml") == 2
    assert len(json.loads(lbctl.out)["problems"]) == 1
    assert lbctl("diff", "--against", "old.toml") == 2
    assert "lbctl diff NEW --against OLD" in lbctl.err


def test_diff_names_a_page_that_cannot_be_read_with_its_place(lbctl, monkeypatch, tmp_path):
    """What a plan reads beside the file is looked at too."""
    written(monkeypatch, tmp_path, old=FINE, new=FINE + '[error_pages]\n502 = "gone.html"\n')
    assert lbctl("diff", "new.toml", "--against", "old.toml") == 2
    assert lbctl.out.startswith("new.toml:5:")
    assert "gone.html" in lbctl.out
