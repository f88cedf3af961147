"""The report of doctor on a computer that lacks something."""

import json

import pytest
from typer.testing import CliRunner

from rackwright.cli import doctor
from rackwright.cli.app import app
from rackwright.cli.doctor import Check


def test_a_missing_package_is_named_below_its_feature(tmp_path):
    listed = tmp_path / "list"
    listed.write_text(
        "# packages\n\n## shell\ndash  sh  # a shell\nnot-there  no-such-command  # nothing\n\n"
        "## files\nbase  /etc/passwd\ngone  /no/such/file\nlost  python3:no_such_module\n"
    )

    assert doctor.missing_packages([listed]) == {"shell": ["not-there"], "files": ["gone", "lost"]}


def test_every_package_belongs_to_a_feature(monkeypatch):
    names = {line.split()[0] for path in doctor.LISTS for line in path.read_text().splitlines() if line.strip()}
    monkeypatch.setattr(doctor, "_missing_of", lambda path: names)

    assert doctor.missing_packages().keys() == {"command line", "lock", "twin", "workloads"}


def test_what_is_missing_comes_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.setattr(doctor, "_missing_of", lambda path: ["swtpm"])

    shown = CliRunner().invoke(app, ["doctor", "--json"])

    assert shown.exit_code == 1
    twin = next(check for check in json.loads(shown.stdout)["checks"] if check["feature"] == "twin")
    assert (twin["state"], twin["details"]) == ("missing", "no swtpm")
    assert twin["help"] == "Run as root: apt-get install --no-install-recommends swtpm"


def test_an_accelerator_that_was_never_tried_is_not_ready(monkeypatch):
    monkeypatch.setattr(doctor.accelerator, "stored_accelerator", lambda: None)
    monkeypatch.setattr(doctor.os, "access", lambda path, mode: True)

    assert doctor._acceleration() == Check(
        "fast virtual machines", "later", "/dev/kvm exists; the first start of a twin tries a guest with it"
    )


@pytest.mark.parametrize(("found", "state"), [(None, "later"), ("boto3", "ready")])
def test_the_library_of_object_stores_is_looked_for(monkeypatch, found, state):
    monkeypatch.setattr(doctor, "find_spec", lambda name: found)

    [check] = [each for each in doctor.checks() if each.feature == "object stores"]
    assert check.state == state and "boto3" in check.details
    assert ("-m pip install boto3`" in check.help) is (found is None)
