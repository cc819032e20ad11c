"""Formats of the access log as a configuration names them, and what is said of one that is none."""

import pytest
from pydantic import ValidationError

from twisted_lb.config import LoadBalancerConfig


def refusal(**tables) -> str:
    with pytest.raises(ValidationError) as refused:
        LoadBalancerConfig.model_validate({"backends": ["a:1"], **tables})
    [error] = refused.value.errors()
    return error["msg"].removeprefix("Value error, ")


@pytest.mark.parametrize(
    "text", ["haproxy", "combined", "json", "{client}", "a {method} {{b}} {status}", '"{user_agent}"']
)
def test_what_is_one(text):
    config = LoadBalancerConfig.model_validate({"backends": ["a:1"], "log": {"file": "stdout", "format": text}})
    assert config.log.format == text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "jsn",
            "'jsn' is none of haproxy, combined, json, and no template, which has {placeholders}; did you mean \"json\"?",
        ),
        ("x", "'x' is none of haproxy, combined, json, and no template, which has {placeholders}"),
        ("{clinet} {status}", "there is no placeholder {clinet}; did you mean {client}?"),
        ("{client} {", "the { at character 10 has no partner; {{ stands for one of it"),
        ("{client}}", "the } at character 9 has no partner; }} stands for one of it"),
        ("{client}\n{status}", "a template is one line of printable characters"),
        ("{{}}", "a template needs at least one placeholder, such as {client}"),
    ],
)
def test_what_is_none_is_told_with_what_may_have_been_meant(text, said):
    assert refusal(log={"file": "stdout", "format": text}) == said
    assert refusal(routes=[{"pool": "default", "log": text}]) == said


def test_a_placeholder_that_is_like_no_other_is_told_with_all_that_there_are():
    assert refusal(log={"file": "stdout", "format": "{}"}).startswith(
        "there is no placeholder {}: there are time, client,"
    )


@pytest.mark.parametrize("value", [1, 0.5, [], {}, None])
def test_a_listener_says_a_switch_or_a_format(value):
    said = refusal(defaults={"listener": {"log": value}})
    assert said == 'should be true, false, or a format such as "json"'


@pytest.mark.parametrize("file", ["", "a/", "a\0b"])
def test_where_it_goes_is_a_file_or_a_word(file):
    assert refusal(log={"file": file}) == 'should be the path of a file, "stdout" or "syslog"'


@pytest.mark.parametrize(("key", "value"), [("sample", -0.1), ("sample", 1.1), ("slow_s", -1.0), ("addresses", "none")])
def test_other_keys_have_bounds(key, value):
    assert refusal(log={"file": "stdout", key: value})
