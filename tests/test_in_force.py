"""The configuration in force, and the files that say something else by now: its own, and those that it names."""

import os
from pathlib import Path

import pytest

from twisted_lb.config import LoadBalancerConfig
from twisted_lb.service import in_force
from twisted_lb.service.in_force import InForce
from twisted_lb.watch import digest


class Paper:
    """A source that was read from one file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.read = digest(path)

    def origins(self, config):
        return object()

    def files(self):
        return {self.path: self.read}


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """A configuration file, and a certificate that it names; `looked` are the files that were looked into."""

    class Desk:
        file, certificate, folder = tmp_path / "lb.toml", tmp_path / "www.pem", tmp_path / "tls"

        def __init__(self):
            self.looked = []
            self.file.write_text("one")
            self.certificate.write_text("one")
            self.folder.mkdir()
            self.named = {str(one): digest(one) for one in (self.certificate, self.folder)}
            self.in_force = InForce(Paper(self.file), LoadBalancerConfig(backends=["a:80"]), lambda: self.named)
            monkeypatch.setattr(in_force, "digest", self.look)

        def look(self, path):
            self.looked.append(path.name)
            return digest(path)

        def changed(self):
            path, seconds, changed = self.in_force.changed_file()
            assert path == str(self.file)
            assert (seconds is None) is (changed == "")
            return changed

    return Desk()


def test_nothing_has_changed(desk):
    assert desk.in_force.changed_file() == (str(desk.file), None, "")


def test_a_certificate_that_was_renewed_has_changed_although_the_configuration_says_the_same(desk):
    desk.certificate.write_text("two")
    assert desk.changed() == str(desk.certificate)
    desk.named[str(desk.certificate)] = digest(desk.certificate)  # a reload
    assert desk.changed() == ""


def test_of_several_the_one_is_named_that_has_changed_first(desk):
    desk.certificate.write_text("two")
    desk.file.write_text("two")
    os.utime(desk.certificate, (1000.0, 1000.0))
    assert desk.changed() == str(desk.certificate)
    os.utime(desk.file, (900.0, 900.0))
    assert desk.changed() == str(desk.file)


def test_another_name_in_a_folder_is_a_change(desk):
    (desk.folder / "api.pem").write_text("new")
    assert desk.changed() == str(desk.folder)


def test_one_that_was_written_back_has_not_changed(desk):
    desk.certificate.write_text("two")
    assert desk.changed()
    desk.certificate.write_text("one")
    assert desk.changed() == ""


def test_one_that_is_gone_is_no_change(desk):
    desk.certificate.unlink()
    assert desk.changed() == ""


def test_files_are_looked_into_once_while_they_stay(desk):
    for _ in range(3):
        desk.changed()
    assert sorted(desk.looked) == ["lb.toml", "tls", "www.pem"]
    desk.looked.clear()
    desk.certificate.write_text("longer")
    assert [desk.changed() for _ in range(2)] == [str(desk.certificate)] * 2
    assert desk.looked == ["www.pem"]


def test_without_a_file_there_is_none():
    assert InForce(None, LoadBalancerConfig(backends=["a:80"])).changed_file() is None
