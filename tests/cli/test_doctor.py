"""The report of doctor on a computer that lacks something."""

import json
import subprocess

import pytest
from typer.testing import CliRunner

from rackwright import extras
from rackwright.cli import doctor
from rackwright.cli.app import app
from rackwright.cli.doctor import Check
from rackwright.twin.container import backend


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


@pytest.mark.parametrize(("found", "state"), [(None, "later"), ("a module", "ready")])
@pytest.mark.parametrize("extra", extras.EXTRAS)
def test_the_library_of_a_single_feature_is_looked_for(monkeypatch, extra, found, state):
    monkeypatch.setattr(extras, "find_spec", lambda name: found)

    [check] = [each for each in doctor.checks() if extra.package in each.details]
    assert check.state == state
    assert (f"requirements/{extra.name}.txt`" in check.help) is (found is None)


CLUSTER = """\
fleet: rack
hosts:
  node-01:
    address: 192.0.2.1
    identity: {serial: S-1}
    os: debian-12
    nics: [{name: port0, mac: "52:54:00:00:00:01"}, {name: port1, mac: "52:54:00:00:00:02"}]
    network: {bonds: {fabric: {mode: 802.3ad, members: [port0, port1], addresses: [10.0.0.1/24]}}}
"""


def test_the_kernel_is_asked_for_what_the_containers_of_the_twins_need(monkeypatch, tmp_path):
    """
    A notice, and the command of `twin start`; a stack with errors hides nothing about the others.
    """
    stacks = tmp_path / "stacks"
    stacks.mkdir()
    (tmp_path / "Pulumi.yaml").write_text("name: rackwright\nruntime: python\n")
    (stacks / "rack.yaml").write_text(CLUSTER)
    for stack, more in (("lab", "  rackwright:containers: [node-01]\n"), ("wrong", "  rackwright:containers: 1\n")):
        target = "config:\n  rackwright:fleet: rack.yaml\n  rackwright:target: twin:lab\n"
        (stacks / f"Pulumi.{stack}.yaml").write_text(target + more)
    (tmp_path / "max_user_instances").write_text("3\n")
    refused = subprocess.CompletedProcess([], 2, "", "Error: Unknown device type.")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(doctor.os, "geteuid", lambda: 0)
    monkeypatch.setattr(backend, "_INOTIFY", tmp_path / "max_user_instances")
    monkeypatch.setattr(backend.subprocess, "run", lambda *argv, **options: refused)

    links, inotify = doctor._containers()

    assert {links.feature, inotify.feature} == {"containers of stack lab"}
    assert {links.state, inotify.state} == {"limited"}
    assert links.details == "node-01: this computer's kernel makes no link of type bond: Error: Unknown device type."
    assert links.help.startswith("Remove the hosts from rackwright:containers") and "no module bonding" in links.help
    assert inotify.details == "1 containers: this computer allows a user 3 inotify instances"
    assert "`sudo sysctl fs.inotify.max_user_instances=8`" in inotify.help
