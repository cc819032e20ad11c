"""What is doubtful about the files of certificates, by its code and its place in the configuration."""

import time

import pytest
from authority import DAY, NOW, Authority, chain_of, key_of, parsed
from cryptography.hazmat.primitives.serialization import Encoding

from twisted_lb.certificate_doubts import certificate_doubts
from twisted_lb.check import check
from twisted_lb.config import LoadBalancerConfig
from twisted_lb.config.load import Source
from twisted_lb.plan import plan_of


@pytest.fixture
def house(tmp_path):
    return Authority(tmp_path)


def doubted(tls, now=None):
    config = LoadBalancerConfig.model_validate({"backends": ["a:80"], "listen": {"port": 443}, "tls": tls})
    return [str(one) for one in certificate_doubts(config, plan_of(config), NOW.timestamp() if now is None else now)]


def written(house, *names, **more):
    leaf = house.leaf(*names, **more)
    return house.write("one.pem", chain_of(leaf), key_of(leaf))


def test_nothing_is_doubtful_about_a_certificate_in_order(house):
    assert doubted(written(house, "example.com")) == []
    assert doubted("self-signed", time.time()) == []


def test_a_certificate_that_has_expired_is_doubted_and_served(house):
    path = written(house, "example.com", not_after=NOW - DAY)
    assert doubted(path) == [
        f"tls.certificates: {path}: has expired on {NOW - DAY:%Y-%m-%d}: clients refuse it   [W61]"
    ]


def test_a_certificate_that_is_not_yet_valid_is_doubted(house):
    path = written(house, "example.com", not_before=NOW + DAY)
    assert doubted(path) == [f"tls.certificates: {path}: is not valid before {NOW + DAY:%Y-%m-%d}   [W61]"]


def test_a_certificate_with_less_than_21_days_is_doubted(house):
    path = written(house, "example.com", not_after=NOW + 22 * DAY)
    assert doubted(path) == []
    text = f"tls.certificates: {path}: expires in 19 days, on {NOW + 20 * DAY:%Y-%m-%d}   [W61]"
    assert doubted(written(house, "example.com", not_after=NOW + 20 * DAY), (NOW + DAY / 2).timestamp()) == [text]


def test_a_host_without_a_certificate_is_doubted(house):
    path = written(house, "*.example.com")
    hosts = {"admin.example.com": {"policy": "modern"}, "admin.test": {"policy": "modern"}}
    assert doubted({"certificates": path, "hosts": hosts}) == [
        "tls.hosts: no certificate is for the host admin.test   [W66]"
    ]


def test_a_stale_revocation_list_is_doubted(house):
    crl = house.write("clients.crl", house.crl(ends=NOW - DAY))
    tls = {
        "certificates": written(house, "example.com"), "client_certificate": "require", "client_ca": house.path, "crl": crl,
    }  # fmt: skip
    assert doubted(tls) == [
        f"tls.crl: {crl}: is past its next update on {NOW - DAY:%Y-%m-%d}: no client certificate is accepted   [W65]"
    ]


def test_what_is_doubtful_about_a_file_is_said_once_for_all_listeners(house):
    stranger = Authority(house.folder / "elsewhere", "stranger")
    leaf = house.leaf("example.com")
    path = house.write("one.pem", chain_of(leaf), stranger.pem, key_of(leaf))
    listeners = {name: {"address": f":{port}", "tls": path} for name, port in (("a", 443), ("b", 444))}
    config = LoadBalancerConfig.model_validate({"backends": ["a:80"], "listeners": listeners})
    [doubt] = certificate_doubts(config, plan_of(config), NOW.timestamp())
    assert (doubt.code, doubt.path) == ("W63", ("listeners", "a", "tls", "certificates"))


def test_what_a_pool_shows_its_backends_is_looked_at_too(house):
    path = written(house, "lb@example.com", not_after=NOW - DAY)
    pools = {"api": {"backends": ["a:443"], "tls": {"certificate": path}}}
    listeners = {"web": {"address": ":443", "tls": path, "default_pool": "api"}}
    for more, place in (
        (listeners, ("listeners", "web", "tls", "certificates")),
        ({"web": {"address": ":80"}}, ("pools", "api", "tls", "certificate")),
    ):
        config = LoadBalancerConfig.model_validate({"pools": pools, "listeners": more, "routes": [{"pool": "api"}]})
        found = list(certificate_doubts(config, plan_of(config), NOW.timestamp()))
        assert [(one.code, one.path) for one in found if "expired" in one.text] == [("W61", place)]


def test_a_check_says_it_with_its_place(house):
    path = written(house, "example.com", not_after=NOW - DAY)
    file = house.folder / "lb.toml"
    file.write_text('backends = ["127.0.0.1:1"]\nlisten.port = 8443\n\n[tls]\ncertificates = "one.pem"\n')
    status, said = check(Source({}, file))
    [first, *_] = said.splitlines()
    assert status == 0
    assert (
        first
        == f"{file}:5:16: tls.certificates: {path}: has expired on {NOW - DAY:%Y-%m-%d}: clients refuse it   [W61]"
    )


def test_a_check_refuses_a_file_that_is_wrong_with_its_place(house):
    leaf = house.leaf("example.com")
    house.write("one.pem", chain_of(leaf), key_of(house.leaf("other.example.com")))
    house.write("binary.crl", parsed(leaf).public_bytes(Encoding.DER))
    file = house.folder / "lb.toml"
    file.write_text(
        'backends = ["127.0.0.1:1"]\n\n[tls]\ncertificates = ["one.pem", "self-signed"]\n'
        'client_certificate = "require"\nclient_ca = "ca.pem"\ncrl = "binary.crl"\n'
    )
    status, said = check(Source({}, file))
    errors = [line for line in said.splitlines() if line.startswith(str(file))]
    assert status == 1
    assert errors[0] == (
        f"{file}:4:17: tls.certificates[0]: {house.folder}/one.pem: the key in it does not belong to its certificate"
    )
    assert errors[1].startswith(f"{file}:7:7: tls.crl: {house.folder}/binary.crl: is no revocation list: ")


def test_the_time_of_a_check_is_now():
    assert abs(NOW.timestamp() - time.time()) < DAY.total_seconds()
