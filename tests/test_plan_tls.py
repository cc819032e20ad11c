"""Certificates in a plan: read before anything changes, compared by what is in their files, and handed to the frontend."""

import os
import re
from pathlib import Path

import pytest
from authority import Authority, chain_of, key_of
from handshakes import client, shake
from house import House

from twisted_lb.config import LoadBalancerConfig
from twisted_lb.config.load import Source
from twisted_lb.errors import ConfigError
from twisted_lb.plan import Files, plan_of
from twisted_lb.plan_diff import plan_diff
from twisted_lb.tls import serving
from twisted_lb.watch import digest


@pytest.fixture
def house(tmp_path):
    return Authority(tmp_path)


def planned(tls, before=None, files=None, **more):
    config = LoadBalancerConfig.model_validate({"backends": ["a:80"], "listen": {"port": 443}, "tls": tls, **more})
    return plan_of(config, before, files)


def refusals(tls, **more):
    with pytest.raises(ConfigError) as error:
        planned(tls, **more)
    return [str(one) for one in error.value.problems]


def written(house, name, *hosts):
    leaf = house.leaf(*hosts)
    return house.write(name, chain_of(leaf), key_of(leaf))


def changes(before, after):
    return [one for one in plan_diff(before, after).changes if "listener" in one]


def test_a_listener_without_certificates_speaks_plain_http():
    for tls in ({}, "off", {"certificates": "off"}, {"certificates": []}):
        assert planned(tls).listeners["default"].tls is None


def test_a_listener_takes_certificates_of_several_places_in_their_order(house):
    paths = [written(house, f"{name}.pem", f"{name}.example.com") for name in "ba"]
    tls = planned({"certificates": [*paths, "self-signed", paths[0]]}).listeners["default"].tls
    assert [one.label for one in tls.certificates] == ["b.example.com", "a.example.com", "localhost"]


def test_what_is_wrong_is_said_all_at_once_each_at_its_place(house):
    alone = house.write("alone.pem", chain_of(house.leaf("example.com")))
    noise = house.write("noise.pem", b"noise")
    tls = {
        "certificates": [alone, "self-signed", "/nowhere"],
        "client_certificate": "request",
        "client_ca": noise,
        "hosts": {
            "a.test": {"client_certificate": "require", "client_ca": "/nowhere.pem"},
            "b.test": {"policy": "modern"},
        },
    }
    assert refusals(tls, error_pages={"503": "/no/page"}) == [
        "error_pages.503: /no/page: no such file or directory",
        f"tls.certificates[0]: {alone}: has no key, and there is none beside it (alone.key, alone-key.pem, privkey.pem)",
        "tls.certificates[2]: /nowhere: no such file or directory",
        f"tls.client_ca: {noise}: has no certificate of a CA (PEM: -----BEGIN CERTIFICATE-----)",
        'tls.hosts."a.test".client_ca: /nowhere.pem: no such file or directory',
    ]


def test_who_is_asked_for_a_certificate_needs_a_ca(house):
    tls = {"certificates": "self-signed", "hosts": {"a.test": {"client_certificate": "require"}}}
    text = 'is needed: client_certificate = "require" has to know whose certificates count'
    assert refusals(tls) == [f'tls.hosts."a.test".client_ca: {text}']
    assert planned({**tls, "client_ca": house.path}).listeners["default"].tls.hosts[0][1].asks


def test_what_a_host_does_not_say_is_as_for_all_others(house):
    tls = {
        "certificates": "self-signed", "ciphers": "ECDHE+AESGCM", "client_ca": house.path,
        "hosts": {"a.test": {"client_certificate": "require"}, "b.test": {"policy": "modern", "client_certificate": "off"}},
    }  # fmt: skip
    found = planned(tls).listeners["default"].tls
    said = {host: (one.preset, one.ciphers, one.client_certificate) for host, one in (("", found.policy), *found.hosts)}
    assert said == {
        "": ("intermediate", "ECDHE+AESGCM", "off"),
        "a.test": ("intermediate", "ECDHE+AESGCM", "require"),
        "b.test": ("modern", "ECDHE+AESGCM", "off"),
    }


def test_ciphers_that_ask_for_more_than_a_certificate_has_are_refused(house):
    path = written(house, "one.pem", "example.com")
    tls = {"certificates": path, "hosts": {"a.test": {"ciphers": "ECDHE+AESGCM:@SECLEVEL=5"}}}
    assert refusals(tls) == [
        f'tls.hosts."a.test".ciphers: with these OpenSSL takes no such certificate as {path}: ee key too small'
    ]
    assert planned({"certificates": path, "ciphers": "ECDHE+AESGCM:@SECLEVEL=2"}).listeners["default"].tls is not None


# Another plan.


def test_equal_files_are_the_same_part_of_the_plan(house):
    tls = {"certificates": written(house, "one.pem", "example.com")}
    before = planned(tls)
    after = planned(tls, before)
    assert after.listeners["default"] is before.listeners["default"]
    assert changes(before, after) == []


def test_another_certificate_in_the_same_file_is_a_difference_of_one_line(house):
    tls = {"certificates": written(house, "one.pem", "example.com")}
    before = planned(tls)
    written(house, "one.pem", "example.com")
    [line] = changes(before, planned(tls, before))
    until = r"until 3000-01-01 \([0-9a-f]{8}\)"
    assert re.fullmatch(rf"changes listener default: certificate example.com \(ECDSA\) {until} -> {until}", line)


def test_certificates_that_come_and_go_are_named(house):
    folder = str(house.folder / "all")
    written(house, "all/a.pem", "a.example.com")
    before = planned(folder)
    (house.folder / "all" / "a.pem").unlink()
    written(house, "all/b.pem", "b.example.com")
    [line] = changes(before, planned(folder, before))
    assert "certificate a.example.com (ECDSA) until 3000-01-01 (" in line
    assert line.count(" -> none") == 1
    assert ", certificate b.example.com (ECDSA) none -> until 3000-01-01 (" in line


def test_another_revocation_list_is_a_difference(house):
    crl = house.write("clients.crl", house.crl())
    tls = {"certificates": "self-signed", "client_certificate": "require", "client_ca": house.path, "crl": crl}
    before = planned(tls)
    house.write("clients.crl", house.crl([house.leaf("bob@example.com")]))
    assert changes(before, planned(tls, before)) == ["changes listener default: tls.crl: other content"]


def test_a_self_signed_certificate_is_the_same_over_reloads():
    before = planned("self-signed")
    after = planned("self-signed", before, log={"requests": "all"})
    assert after.listeners["default"] is before.listeners["default"]


def test_a_listener_that_comes_has_the_self_signed_certificate_that_there_is():
    before = planned("self-signed")
    listeners = {"a": {"address": ":444", "tls": "self-signed"}}
    after = planned("self-signed", before, listeners=listeners)
    assert after.listeners["a"].tls.certificates == before.listeners["default"].tls.certificates
    assert after.listeners["default"] is before.listeners["default"]


def test_two_listeners_of_a_plan_have_one_self_signed_certificate():
    listeners = {name: {"address": f":{port}", "tls": "self-signed"} for name, port in (("a", 443), ("b", 444))}
    plan = plan_of(LoadBalancerConfig.model_validate({"backends": ["x:80"], "listeners": listeners}))
    assert len({one.tls.certificates for one in plan.listeners.values() if one.tls}) == 1


def test_a_private_key_is_in_no_repr(house):
    assert "PRIVATE" not in repr(planned(written(house, "one.pem", "example.com")))


# Files.


def test_relative_files_are_in_the_folder_of_the_configuration_and_those_of_a_flag_where_it_was_typed(
    house, monkeypatch
):
    written(house, "conf/tls/one.pem", "file.example.com")
    written(house, "elsewhere/tls/one.pem", "flag.example.com")
    file = house.folder / "conf" / "lb.toml"
    file.write_text('backends = ["a:80"]\ntls = "tls"\n')
    monkeypatch.chdir(house.folder / "elsewhere")
    sources = [Source(flags, Path("../conf/lb.toml")) for flags in ({}, {"--tls": "tls"})]
    files = Files()
    monkeypatch.chdir("/")  # as twistd does
    found = [plan_of(source.load(), files=files.anew()).listeners["default"].tls for source in sources]
    assert [one.certificates[0].names for one in found] == [("file.example.com",), ("flag.example.com",)]


def test_a_flag_leaves_what_the_file_says_of_clients(house):
    file = house.folder / "lb.toml"
    file.write_text(
        f'backends = ["a:80"]\n[tls]\ncertificates = "/nowhere"\nclient_certificate = "require"\nclient_ca = "{house.path}"\n'
    )
    tls = plan_of(Source({"--tls": "self-signed"}, file).load()).listeners["default"].tls
    assert (str(tls).partition(" until")[0], tls.policy.client_certificate) == ("localhost, self-signed", "require")
    file.write_text('backends = ["a:80"]\ntls = "/nowhere"\n')
    assert plan_of(Source({"--tls": "self-signed"}, file).load()).listeners["default"].tls is not None


def test_all_that_was_looked_for_is_watched_folders_too(house):
    folder = house.folder / "all"
    leaf = house.leaf("a.example.com")
    house.write("all/a.crt", chain_of(leaf))
    house.write("all/a.key", key_of(leaf))
    files = Files()
    planned(str(folder), files=files)
    assert {"a.crt", "a.key", "all"} <= {os.path.basename(path) for path in files.digests}
    assert files.digests == {path: digest(Path(path)) for path in files.digests}
    before = files.digests
    written(house, "all/b.pem", "b.example.com")
    assert [path for path in before if digest(Path(path)) != before[path]] == [str(folder)]


# The data plane.


def test_a_frontend_is_handed_what_it_serves_tls_with_and_a_reload_keeps_its_tickets(house):
    path = written(house, "one.pem", "example.com")
    lb = House(tls=path)
    try:
        before = lb.frontend.serving
        someone = client()
        session = shake(before, "example.com", someone).client.session
        written(house, "one.pem", "example.com", "more.example.com")
        lb.apply(tls=path)
        after = lb.frontend.serving
        assert shake(after, "example.com", someone, session).resumed
        assert shake(after, "more.example.com").fingerprint == after.certificates[0].fingerprint
        lb.apply(tls=path, log={"requests": "all"})
        assert lb.frontend.serving is after
        with pytest.raises(ConfigError):
            lb.apply(tls="/nowhere.pem")
        assert lb.frontend.serving is after
        lb.apply(tls="off")
        assert lb.frontend.serving is None
    finally:
        lb.close()


def test_ticks_let_first_contexts_age(monkeypatch):
    monkeypatch.setattr(serving, "TICKET_KEY_LASTS_S", 60.0)
    lb = House(tls="self-signed")
    try:
        first = lb.frontend.serving.choose("").context
        lb.wait(50)
        assert lb.frontend.serving.choose("").context is first
        lb.wait(20)
        assert lb.frontend.serving.choose("").context is not first
    finally:
        lb.close()


# TLS to backends.


def pool_plan(tls, before=None):
    pools = {"api": {"backends": ["a:443"], "tls": tls}}
    listeners = {"web": {"address": ":80", "default_pool": "api"}}
    return plan_of(LoadBalancerConfig.model_validate({"pools": pools, "listeners": listeners}), before)


def test_an_empty_table_is_tls_to_the_backends_of_a_pool_and_none_is_not():
    assert pool_plan({}).pools["api"].tls.verify
    assert plan_of(LoadBalancerConfig(backends=["a:1"], tls="self-signed")).pools["default"].tls is None


def test_another_ca_of_a_pool_is_a_difference(house):
    tls = {"ca": house.path, "certificate": written(house, "own.pem", "lb.internal")}
    before = pool_plan(tls)
    assert pool_plan(tls, before).pools["api"] is before.pools["api"]
    Authority(house.folder)
    written(house, "own.pem", "lb.internal")
    [line] = plan_diff(before, pool_plan(tls, before)).changes
    assert line.startswith("changes pool api: tls.ca: other content, tls.certificate until 3000-01-01 (")


def test_wrong_files_of_a_pool_are_told_at_their_places(house):
    with pytest.raises(ConfigError) as error:
        pool_plan({"ca": "/nowhere.pem", "certificate": house.path})
    assert [str(one) for one in error.value.problems] == [
        "pools.api.tls.ca: /nowhere.pem: no such file or directory",
        f"pools.api.tls.certificate: {house.path}: has no key, and there is none beside it (ca.key, ca-key.pem, privkey.pem)",
    ]
