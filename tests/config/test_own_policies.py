"""A policy of one's own in a configuration: where it is found, and what is said where it is not, or cannot be used."""

import importlib.metadata
import sys
from importlib.metadata import EntryPoint, EntryPoints

import pytest

from twisted_lb.config import LoadBalancerConfig
from twisted_lb.config.doubts import doubts
from twisted_lb.config.load import Source
from twisted_lb.config.own_policies import GROUP
from twisted_lb.core.pickers import POLICIES
from twisted_lb.core.pickers.own import own_policy
from twisted_lb.errors import ConfigError
from twisted_lb.plan import plan_of

FEWEST = """\
class Fewest:
    def __init__(self, members, previous=None):
        self.members = members

    def pick(self, ask, now, rng, tried):
        return min((one for one in self.members if one.open_to(tried)), key=lambda one: one.in_flight, default=None)


class Zoned(Fewest):
    def __init__(self, members, previous=None):
        self.members = [one for one in members if one.labels["zone"] == "a"]


class Short(Fewest):
    def pick(self):
        return None


number = 5


def made(members, previous):
    return Fewest(members)
"""

NUMBER = iter(range(10_000))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a configuration; what is imported from there is forgotten afterwards."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(tmp_path) in (getattr(sys.modules[name], "__file__", None) or ""):
            del sys.modules[name]


@pytest.fixture
def module(folder):
    """The name of a module in the folder."""
    name = f"policies_{next(NUMBER)}"
    (folder / f"{name}.py").write_text(FEWEST)
    return name


def source(folder, text, **flags):
    file = folder / "lb.toml"
    file.write_text(text)
    return Source({f"--{flag}": value for flag, value in flags.items()}, file)


def planned(source):
    config = source.load()
    try:
        return plan_of(config)
    except ConfigError as error:
        raise ConfigError(source.placed(config, error.problems)) from None


def test_a_module_beside_the_configuration_is_found(folder, module):
    pool = planned(source(folder, f'backends = ["a:80"]\npolicy = "{module}:Fewest"')).pools["default"]
    assert pool.policy_name == f"{module}:Fewest"
    assert pool.policy == own_policy(sys.modules[module].Fewest, f"{module}:Fewest", 0.0005)


def test_where_python_looks_comes_first(folder, module):
    (folder / "json.py").write_text("class JSONDecoder: pass")
    with pytest.raises(ConfigError, match=r"policy: json:JSONDecoder has no method pick\(ask, now, rng, tried\)"):
        source(folder, 'backends = ["a:80"]\npolicy = "json:JSONDecoder"').load()
    assert sys.path[0] != str(folder)


def test_a_module_in_a_package_and_a_class_in_a_class_are_found(folder):
    name = f"package_{next(NUMBER)}"
    (folder / name).mkdir()
    (folder / name / "inner.py").write_text(f"{FEWEST}\nclass Outer:\n    Inner = Fewest\n")
    plan = planned(source(folder, f'backends = ["a:80"]\npolicy = "{name}.inner:Outer.Inner"'))
    assert plan.pools["default"].policy.target.__name__ == "Fewest"


def test_a_flag_names_one_too(folder, module):
    plan = planned(source(folder, 'backends = ["a:80"]\npolicy = "rr"', strategy=f"{module}:made"))
    assert plan.pools["default"].policy_name == f"{module}:made"


def test_a_program_gives_a_class():
    class Fewest:
        def __init__(self, members):
            pass

        def pick(self, ask, now, rng, tried):
            return None

    plan = plan_of(LoadBalancerConfig.model_validate({"backends": ["a:80"], "policy": Fewest}))
    assert plan.pools["default"].policy.target is Fewest
    assert plan.pools["default"].policy_name.endswith("<locals>.Fewest")


def test_an_entry_point_names_one(folder, module, monkeypatch):
    planned(source(folder, f'backends = ["a:80"]\npolicy = "{module}:Fewest"'))
    known = EntryPoints([EntryPoint("fewest", f"{module}:Fewest", GROUP), EntryPoint("gone", f"{module}:Gone", GROUP)])
    monkeypatch.setattr("twisted_lb.config.own_policies.entry_points", known.select)
    plan = planned(source(folder, 'backends = ["a:80"]\npolicy = "entry-point:fewest"'))
    assert plan.pools["default"].policy_name == "entry-point:fewest"
    assert plan.pools["default"].policy.target is sys.modules[module].Fewest
    for policy, said in (
        (
            "gone",
            f"({module}:Gone) cannot be loaded: it raised AttributeError: module '{module}' has no attribute 'Gone'",
        ),
        ("x", "no installed package has it in twisted_lb.policies; there is fewest, gone"),
    ):
        with pytest.raises(ConfigError) as caught:
            source(folder, f'backends = ["a:80"]\npolicy = "entry-point:{policy}"').load()
        assert said in str(caught.value)


def test_an_entry_point_whose_module_leaves_is_one_line(folder, monkeypatch):
    name = f"leaving_{next(NUMBER)}"
    (folder / f"{name}.py").write_text("import sys\nsys.exit('see you')\n")
    known = EntryPoints([EntryPoint("leaves", f"{name}:Class", GROUP)])
    monkeypatch.setattr("twisted_lb.config.own_policies.entry_points", known.select)
    monkeypatch.syspath_prepend(folder)
    with pytest.raises(
        ConfigError, match=rf"policy: .*cannot be loaded: it raised SystemExit: see you \({name}.py:2\)"
    ):
        source(folder, 'backends = ["a:80"]\npolicy = "entry-point:leaves"').load()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("class Meta(type):\n    def __getattr__(cls, name):\n        raise SystemExit(name)\nclass P(metaclass=Meta): pass", "P cannot be looked at: it raised SystemExit: pick"),
        ("def __getattr__(name):\n    raise SystemExit(name)", "P cannot be looked up: it raised SystemExit: P"),
    ],
)  # fmt: skip
def test_what_leaves_as_soon_as_it_is_looked_at_is_one_line(folder, text, said):
    name = f"leaving_{next(NUMBER)}"
    (folder / f"{name}.py").write_text(text)
    with pytest.raises(ConfigError, match=said):
        source(folder, f'backends = ["a:80"]\npolicy = "{name}:P"').load()


def test_one_that_looks_at_its_members_as_it_is_made_is_fine(folder):
    name = f"looking_{next(NUMBER)}"
    looks = "        self.known = [(one.in_flight, one.limit, one.available, repr(one)) for one in members]\n"
    (folder / f"{name}.py").write_text(
        FEWEST.replace("        self.members = members\n", f"        self.members = members\n{looks}", 1)
    )
    plan = planned(source(folder, f'backends = ["a:80", "b:80"]\npolicy = "{name}:Fewest"'))
    assert plan.pools["default"].policy_name == f"{name}:Fewest"


def test_no_package_that_is_installed_names_a_built_in():
    assert not importlib.metadata.entry_points(group=GROUP)


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        ("M:Gone", "policy: M:Gone: M (DIR/M.py) has no Gone"),
        ("M:number", "policy: M:number is no class: 5 cannot be called"),
        ("M:Short", "policy: M:Short: pick(self) is called as pick(ask, now, rng, tried)"),
        ("M:Zoned", "policy: M:Zoned: cannot be made: it raised KeyError: 'zone' (M.py:11)"),
        ("nowhere_7:A", "policy: nowhere_7:A: no module nowhere_7, neither where Python looks nor in DIR"),
        ("nowhere_7.inner:A", "policy: nowhere_7.inner:A: no module nowhere_7, neither where Python looks nor in DIR"),
        ("M.inner:A", "policy: M.inner:A: no module M.inner, neither where Python looks nor in DIR"),
        (
            "entry-point:",
            "policy: entry-point:: no installed package has it in twisted_lb.policies; there is none at all",
        ),
        ("M:", "policy: 'M:' should be package.module:Class"),
        (":A", "policy: ':A' should be package.module:Class"),
        ("M:A:B", "policy: 'M:A:B' should be package.module:Class"),
        ("/etc/passwd:A", "policy: '/etc/passwd:A' should be package.module:Class"),
        ("..M:A", "policy: '..M:A' should be package.module:Class"),
    ],
)
@pytest.mark.parametrize("where", ["file", "flag"])
def test_what_is_wrong_is_said_in_one_line_with_its_place(folder, module, policy, said, where):
    policy, said = (text.replace("M", module).replace("DIR", str(folder)) for text in (policy, said))
    text = 'backends = ["a:80"]'
    loading = (
        source(folder, f'{text}\npolicy = "{policy}"') if where == "file" else source(folder, text, strategy=policy)
    )
    with pytest.raises(ConfigError) as caught:
        planned(loading)
    line = str(caught.value)
    assert "\n" not in line
    if where == "file":
        assert line.startswith(f"{folder}/lb.toml:2:10: {said}")
    else:
        assert line.startswith(f"--strategy: {said.removeprefix('policy: ')}")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import nowhere_8", "cannot be imported: it raised ModuleNotFoundError: No module named 'nowhere_8' (M.py:1)"),
        (
            "x = 1\nraise ValueError('not today\\nnor ever')",
            "cannot be imported: it raised ValueError: not today nor ever (M.py:2)",
        ),
        ("def f(:", "cannot be imported: it raised SyntaxError: invalid syntax (M.py, line 1)"),
        ("import sys\nsys.exit(3)", "cannot be imported: it raised SystemExit: 3 (M.py:2)"),
    ],
)
def test_a_module_that_cannot_be_imported_says_why_and_can_be_mended(folder, module, text, said):
    (folder / f"{module}.py").write_text(text)
    loading = source(folder, f'backends = ["a:80"]\npolicy = "{module}:Fewest"')
    with pytest.raises(ConfigError) as caught:
        loading.load()
    assert str(caught.value).endswith(f"policy: {module}:Fewest: {module} {said.replace('M.py', f'{module}.py')}")
    (folder / f"{module}.py").write_text(FEWEST + "\n" * 7)
    loading.load()


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('[pools.api]\nbackends = ["a:80"]\npolicy = "M:Zoned"', "lb.toml:3:10: pools.api.policy"),
        ('[defaults.pool]\npolicy = "M:Zoned"\n[pools.api]\nbackends = ["a:80"]', "lb.toml:2:10: defaults.pool.policy"),
    ],
)
def test_where_it_cannot_be_made_the_place_is_where_it_is_said(folder, module, text, place):
    loading = source(folder, text.replace("M", module) + '\n[listeners.web]\naddress = ":1"\ndefault_pool = "api"')
    with pytest.raises(ConfigError, match="cannot be made") as caught:
        planned(loading)
    assert place in str(caught.value)


def test_it_is_tried_with_the_backends_of_its_pool(folder, module):
    text = f"""
        policy = "{module}:Zoned"
        backends = [{{ address = "a:80", labels = {{ zone = "a" }} }}, "b:80"]
    """
    with pytest.raises(ConfigError, match="KeyError: 'zone'"):
        planned(source(folder, text))
    planned(source(folder, text.replace(', "b:80"', "")))


def test_how_long_a_pick_may_take_is_said_of_the_pool(folder, module):
    text = f'backends = ["a:80"]\npolicy = "{module}:Fewest"\npolicy_budget_us = '
    fewest = lambda plan: plan.pools["default"].policy  # noqa: E731
    first, second, never = (fewest(planned(source(folder, text + budget))) for budget in ("500", "700", "0"))
    target = sys.modules[module].Fewest
    assert (first, second) == tuple(own_policy(target, f"{module}:Fewest", us / 1e6) for us in (500, 700))
    assert never == own_policy(target, f"{module}:Fewest", float("inf"))


def test_as_a_default_it_is_that_of_each_pool_that_says_no_other_one(folder, module):
    pools = '[pools.a]\nbackends = ["a:80"]\n[pools.b]\nbackends = ["b:80"]\npolicy = "rr"\n[listeners.web]\naddress = ":1"\ndefault_pool = "a"'
    text = f'[defaults.pool]\npolicy = "{module}:Fewest"\npolicy_budget_us = 700\nshadow.policy = "{module}:Fewest"\n{pools}'
    plan = planned(source(folder, text))
    own = own_policy(sys.modules[module].Fewest, f"{module}:Fewest", 0.0007)
    assert [plan.pools[name].policy.policy for name in "ab"] == [own, POLICIES["rr"]]
    assert [plan.pools[name].policy.shadow for name in "ab"] == [own, own]


class Here:
    def __init__(self, members, previous=None):
        self.members = members

    def pick(self, ask, now, rng, tried):
        return next((one for one in self.members if one.open_to(tried)), None)


def test_from_python_a_class_is_a_default_too():
    pools = {"a": {"backends": ["a:80"]}, "b": {"backends": ["b:80"], "policy": "rr"}}
    listeners = {"web": {"address": ":1", "default_pool": "a"}}
    described = {"defaults": {"pool": {"policy": Here}}, "pools": pools, "listeners": listeners}
    plan = plan_of(LoadBalancerConfig.model_validate(described))
    assert plan.pools["a"].policy.target is Here
    assert plan.pools["b"].policy == POLICIES["rr"]


def codes(config):
    return [(one.code, str(one.problem())) for one in doubts(config, 10_000, 10_000) if one.code in ("W25", "W26")]


def test_a_module_that_has_changed_since_is_doubtful_as_a_process_imports_it_once(folder, module):
    loading = source(folder, f'backends = ["a:80"]\npolicy = "{module}:Fewest"')
    assert codes(loading.load()) == []
    (folder / f"{module}.py").write_text(FEWEST + "# changed\n")
    config = loading.load()
    [(code, said)] = codes(config)
    assert code == "W25"
    assert f"{folder}/{module}.py has changed since it was imported" in said
    assert plan_of(config).pools["default"].policy.target is sys.modules[module].Fewest
    (folder / f"{module}.py").write_text(FEWEST)
    assert codes(loading.load()) == []


def test_a_budget_without_a_policy_of_ones_own_is_doubtful():
    [(code, said)] = codes(LoadBalancerConfig.model_validate({"backends": ["a:80"], "policy_budget_us": 5}))
    assert (code, said) == (
        "W26", "policy_budget_us: has no effect: rr is a built-in, and no policy of your own   [W26]"
    )  # fmt: skip


def test_a_reload_that_finds_the_same_policy_leaves_the_pool_as_it_is(folder, module):
    loading = source(folder, f'backends = ["a:80"]\npolicy = "{module}:Fewest"')
    before = plan_of(loading.load())
    assert plan_of(loading.load(), before).pools["default"] is before.pools["default"]


def test_one_that_is_a_shadow_is_tried_and_its_budget_is_no_doubt(folder, module):
    text = f'backends = ["a:80"]\nshadow.policy = "{module}:KIND"\npolicy_budget_us = 700'
    config = source(folder, text.replace("KIND", "Fewest")).load()
    assert codes(config) == []
    policy = plan_of(config).pools["default"].policy
    assert policy.shadow == own_policy(sys.modules[module].Fewest, f"{module}:Fewest", 0.0007)
    with pytest.raises(ConfigError, match="cannot be made: it raised KeyError") as caught:
        planned(source(folder, text.replace("KIND", "Zoned")))
    assert f"{folder}/lb.toml:2:17: shadow.policy: {module}:Zoned: " in str(caught.value)
