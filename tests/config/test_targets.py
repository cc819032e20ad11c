"""The table `targets`: one place for a list, and how a wrong value is named."""

import pytest
from pydantic import ValidationError

from twisted_lb.config.targets import TargetsConfig


def refusal(**keys: object) -> str:
    with pytest.raises(ValidationError) as refused:
        TargetsConfig.model_validate(keys)
    [error] = refused.value.errors()
    where = ".".join(map(str, error["loc"]))
    return f"{where}: {error['msg'].removeprefix('Value error, ')}"


@pytest.mark.parametrize(
    ("keys", "where", "pause_s"),
    [
        ({"file": "/etc/lb/api.json"}, "file:/etc/lb/api.json", 2),
        ({"url": "https://registry:8443/api?x=1"}, "https://registry:8443/api?x=1", 30),
        ({"url": "http://[::1]"}, "http://[::1]", 30),
        ({"url": "http://10.0.0.1:8500"}, "http://10.0.0.1:8500", 30),
        ({"srv": "_http._tcp.app.internal"}, "srv:_http._tcp.app.internal", 30),
        ({"srv": "web.service.consul."}, "srv:web.service.consul.", 30),
        ({"file": "api.json", "refresh_s": 0.5}, "file:api.json", 0.5),
        ({"url": "http://a", "refresh_s": 60.0}, "http://a", 60),
    ],
)
def test_a_list_is_in_one_of_three_places_each_with_a_pause_of_its_own(keys, where, pause_s):
    config = TargetsConfig.model_validate(keys)
    assert (config.where, config.pause_s) == (where, pause_s)
    assert (config.allow_empty, config.max_shrink) == (False, 0.5)


@pytest.mark.parametrize(
    ("keys", "wrong"),
    [
        ({}, ": should have one of file, url and srv: the place of the list"),
        ({"file": "a", "srv": "b"}, ": should have one of file and srv, not both"),
        ({"file": "a", "url": "http://b", "srv": "c"}, ": should have one of file and url and srv, not all three"),
        ({"srv": "a", "refresh_s": 5.0}, ": refresh_s is for a file or a URL: how long SRV records hold is in them"),
        ({"file": "a", "refresh_s": 0.0}, "refresh_s: Input should be greater than 0"),
        ({"file": "a", "max_shrink": 1.5}, "max_shrink: Input should be less than or equal to 1"),
        ({"file": "a", "max_shrink": -0.1}, "max_shrink: Input should be greater than or equal to 0"),
        ({"file": "a", "allow_empty": 1}, "allow_empty: Input should be a valid boolean"),
        ({"file": "a", "path": "b"}, "path: Extra inputs are not permitted"),
        ({"file": ""}, "file: should be the path of a file"),
        ({"file": "/etc/lb/"}, "file: should be the path of a file"),
        ({"file": "a\0b"}, "file: should be the path of a file"),
        ({"file": "api.yml"}, "file: should be a file in JSON: YAML is not read"),
        ({"file": "api.yaml"}, "file: should be a file in JSON: YAML is not read"),
        ({"url": "registry/api"}, "url: should be a URL in ASCII that begins with http:// or https://"),
        ({"url": "ftp://registry"}, "url: should be a URL in ASCII that begins with http:// or https://"),
        ({"url": "http://a/b c"}, "url: should be a URL in ASCII that begins with http:// or https://"),
        ({"url": "http://a/\r\nX: y"}, "url: should be a URL in ASCII that begins with http:// or https://"),
        ({"url": "http://ü"}, "url: should be a URL in ASCII that begins with http:// or https://"),
        ({"url": "http://a/#b"}, "url: should have no # in it: it is never sent"),
        ({"url": "http://me:secret@a/"}, "url: should have no user and no password in it: they are not sent"),
        (
            {"url": "http:///b"},
            "url: should name a host, with a port if wanted, such as https://registry.internal:8443/api",
        ),
        (
            {"url": "http://a:0/"},
            "url: should name a host, with a port if wanted, such as https://registry.internal:8443/api",
        ),
        (
            {"url": "http://a:x/"},
            "url: should name a host, with a port if wanted, such as https://registry.internal:8443/api",
        ),
        (
            {"url": "http://[::1/"},
            "url: should name a host, with a port if wanted, such as https://registry.internal:8443/api",
        ),
        (
            {"url": "http://::1/"},
            "url: should name a host, with a port if wanted, such as https://registry.internal:8443/api",
        ),
        (
            {"url": "http://1.2/"},
            "url: should name a host, with a port if wanted, such as https://registry.internal:8443/api",
        ),
        ({"srv": "srv:_http._tcp.a"}, "srv: should be a name with SRV records, such as _http._tcp.app.internal"),
        ({"srv": ""}, "srv: should be a name with SRV records, such as _http._tcp.app.internal"),
        ({"srv": "10.0.0.1"}, "srv: should be a name with SRV records, such as _http._tcp.app.internal"),
        ({"srv": "a b"}, "srv: should be a name with SRV records, such as _http._tcp.app.internal"),
        ({"srv": "_http._tcp.a:53"}, "srv: should be a name with SRV records, such as _http._tcp.app.internal"),
    ],
)
def test_a_wrong_value_is_named_with_what_should_be(keys, wrong):
    assert refusal(**keys) == wrong


def test_a_url_may_have_an_at_in_its_query():
    assert TargetsConfig(url="http://a?x=b@c").where == "http://a?x=b@c"


def test_each_key_says_what_it_means_and_what_may_go_wrong():
    for name, field in TargetsConfig.model_fields.items():
        assert field.description, name
    assert all(
        "Danger: " in (TargetsConfig.model_fields[name].description or "") for name in ("file", "url", "max_shrink")
    )
