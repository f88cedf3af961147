"""Secrets with the real pulumi: what it stores, shows and logs of them is ciphertext and keyed digests."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from rackwright.core.contract import Claim
from rackwright.stack import declare, load_stack
from tests.pulumi.conftest import ROOT, Ended, Project
from tests.support.json_documents import check_printed
from tests.support.leaks import find_forms, forms, leaks
from tests.support.raw_facts import load_services
from tests.support.simulated import SimulatedRack

pytestmark = pytest.mark.pulumi

HOST = "alpha"
FLEET = """
fleet: rack
ssh: {{logins: [{{name: test, user: {user}, key: {key}, become: false}}]}}
hosts:
  alpha:
    os: debian-12
    address: {address}
    ssh: {{port: {port}}}
    identity: {{serial: S-ALPHA}}
    roles:
      base:
        ntp_servers: [time-1.example]
        ntp_keys:
          - {{id: 1, type: SHA256, key: {{secret: ntp_key}}, servers: [time-1.example]}}
"""
SETTINGS = "config: {'rackwright:fleet': fleet.yaml, 'rackwright:target': rack}\n"
OLD, NEW = "0ld-S3cret-of-time", "N3w-S3cret-of-time"
KEYS = "# alpha/base: written by rackwright, and put back when it is changed.\n1 SHA256 {}\n"
PLANTED = forms({"old": OLD, "new": NEW}, [KEYS.format(OLD), KEYS.format(NEW)])
CLAIM = "file:/etc/chrony/chrony.keys"


@dataclass(frozen=True)
class Secretive(Project):
    """A stack of one host whose role base has a secret."""

    rack: SimulatedRack

    def set(self, value: str) -> None:
        """Set the secret as a person does who is not at a terminal: on standard input."""
        argv = ["pulumi", "config", "set", "--stack", "lab", "--secret", "--path", "rackwright:secrets.ntp_key"]
        subprocess.run(argv, cwd=self.directory, env=os.environ | self.environment, input=value, text=True, check=True)

    def rackwright(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        argv = [str(ROOT / ".venv/bin/rackwright"), *arguments]
        variables = os.environ | self.environment | environment
        done = subprocess.run(argv, cwd=self.directory, env=variables, text=True, capture_output=True)
        check_printed(arguments, done.stdout)
        return done

    def become(self, value: str) -> None:
        """Let the host be all that is declared with this *value*."""
        stack = load_stack("lab", self.directory).with_secrets({"ntp_key": value})
        [role] = [resource for resource in declare(stack) if resource.name == f"{HOST}/base"]
        self.rack[HOST].set_facts(as_promised(role.kind.claims(role.spec, stack.repository)))


def as_promised(claims: tuple[Claim, ...]) -> dict[str, Any]:
    """Return raw facts of a host where all *claims* of the role base hold."""
    raw: dict[str, Any] = {
        "unit_overrides": {},
        "covers": {"files": ["/etc", "/var/lib/rackwright"], "sysctls_left_out": []},
        "identity": {"serial": "S-ALPHA"},
        "hardware": {"memory_bytes": 1 << 40, "pci": []},
        "os": {"id": "debian", "version_id": "12"},
        **{name: {} for name in ("files", "directories", "packages", "units", "sysctls", "measures", "owners")},
        **{name: [] for name in ("held", "drives", "links")},
    }
    for claim in claims:
        sort, _, key = claim.thing.partition(":")
        want: dict[str, Any] = dict(claim.want)
        match sort:
            case "file" if want.get("present", True):
                usual = {"mode": "0777", "owner": "root:root", "mtime_ns": 1}
                content = {"digest": want.pop("content")} if "content" in want else {}
                raw["files"].setdefault(key, usual).update({**content, **want})
            case "package":
                raw["packages"][key] = "1"
            case "unit":
                raw["units"][key] = {"load": "loaded", "active": "active", "enabled": want.get("state", "static")}
            case "sysctl":
                raw["sysctls"][key] = want["value"]
            case "measure":
                raw["measures"][key] = 0.001
            case "hostname":
                raw["identity"]["hostname"] = want["running"]
            case "owner":
                raw["owners"][key] = {**want, "wrote": []}
    return load_services(raw)


@pytest.fixture
def project(tmp_path: Path, environment: dict[str, str]) -> Iterator[Secretive]:
    for name in ("Pulumi.yaml", "__main__.py"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "stacks").mkdir()
    (tmp_path / "rackwright").symlink_to(ROOT / "rackwright")
    with SimulatedRack({HOST: as_promised(())}) as rack:
        host = rack[HOST]
        values = {"user": rack.user, "key": rack.key, "address": host.address, "port": host.port}
        (tmp_path / "stacks/fleet.yaml").write_text(FLEET.format(**values))
        (tmp_path / "stacks/Pulumi.lab.yaml").write_text(SETTINGS)
        shutil.copy(rack.known_hosts, tmp_path / "stacks/fleet.known_hosts")
        made = Secretive(tmp_path, environment | {"PULUMI_DEBUG_COMMANDS": "true"}, rack)
        assert made.pulumi("stack", "init", "lab").status == 0
        yield made


def everything(project: Secretive) -> list[str]:
    """Return the leaks in all that the project has on disk: its settings, state, history, plugins' logs, event logs."""
    kept = [path for path in project.directory.iterdir() if not path.is_symlink()]
    return leaks(PLANTED, *kept)


def provider_in(ended: Ended) -> dict[str, Any]:
    resources = ended.digest["deployment"]["resources"]
    return next(each for each in resources if each["type"] == "pulumi:providers:rackwright")


def test_a_secret_that_is_not_set_is_one_error_before_any_connection(project):
    project.rack.switch_off(HOST)
    refused = project.pulumi("preview")

    assert refused.status != 0
    assert "a secret ntp_key without a value\nexpected: stack lab has a value for each secret" in refused.text
    assert "help: Run `rackwright secret set lab ntp_key`" in refused.text
    assert "no answer" not in refused.text


def test_what_pulumi_keeps_and_shows_of_a_secret_is_not_the_secret(project):
    """
    State, history, event log and output; with the first value, and with another, which changes its claim alone.
    """
    project.set(OLD)
    project.become(OLD)
    done = project.pulumi("up", "--yes", "--skip-preview", "--event-log", "first.events")
    assert done.status == 0, done.text
    state = exported(project)
    first = provider_in(state)
    assert set(first["inputs"]["secrets"]) == {"4dabf18193072939515e22adb298388d", "ciphertext"}
    assert project.pulumi("preview", "--expect-no-changes").status == 0

    project.set(NEW)
    shown = project.pulumi("preview", "--diff", "--expect-no-changes", "--event-log", "second.events")
    report = project.pulumi("preview", "--json", "--expect-no-changes")
    [step] = [step for step in report.digest["steps"] if step["op"] not in ("same", "refresh")]
    assert (shown.status, report.status) == (7, 7)
    assert step["urn"].endswith("::alpha/base")
    assert set(step["detailedDiff"]) == {f'claims["{CLAIM}"].content'}
    assert "/etc/chrony/chrony.keys: the content is secret, and not shown" in shown.text

    project.become(NEW)
    again = project.pulumi("up", "--yes", "--skip-preview")
    assert again.status == 0, again.text
    assert provider_in(exported(project))["id"] == first["id"], "the provider was replaced"
    texts = "".join(each.text + json.dumps(each.digest) for each in (done, shown, report, again))
    assert find_forms(texts.encode(), PLANTED) == []
    assert everything(project) == []


def exported(project: Secretive) -> Ended:
    path = project.directory / "exported.json"
    assert project.pulumi("stack", "export", "--file", str(path)).status == 0
    return Ended(0, "", json.loads(path.read_text()), "")


def test_without_the_passphrase_what_depends_on_it_is_unknown_unless_it_is_declared(project):
    """
    With the passphrase all holds; without it nothing counts as holding, nor as wrong; digests tell, and no value.
    """
    project.set(OLD)
    project.become(OLD)
    nobody = {"PULUMI_CONFIG_PASSPHRASE": "another", "PULUMI_CONFIG_PASSPHRASE_FILE": ""}
    assert project.pulumi("preview").status == 0
    stranger = project.rackwright("preview", "lab", **nobody)
    assert stranger.returncode != 0 and "incorrect passphrase" in stranger.stderr

    whole = project.rackwright("audit", "lab", "--json")
    blind = project.rackwright("audit", "lab", "--json", **nobody)
    assert unknown(whole) == {}
    assert unknown(blind) == {f"{CLAIM}.content": "the value of the secret ntp_key is not known here"}
    assert blind.returncode == 3
    assert 'its secrets cannot be decrypted; pulumi printed "incorrect passphrase"' in blind.stderr

    declared = project.rackwright("digests", "lab")
    assert project.rackwright("digests", "lab", **nobody).returncode == 2
    path = project.directory / "declared.json"
    path.write_text(declared.stdout)
    report = project.rackwright("audit", "lab", "--json", "--digests", str(path), **nobody)
    assert (unknown(report), report.returncode) == ({}, whole.returncode)

    project.become(NEW)
    other = project.rackwright("audit", "lab", "--digests", str(path), **nobody)
    assert other.returncode == 1 and f"{CLAIM}.content" in other.stdout
    texts = "".join(done.stdout + done.stderr for done in (stranger, whole, blind, declared, report, other))
    assert find_forms(texts.encode(), PLANTED) == []
    assert everything(project) == []


def unknown(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    """Return what of the role an audit does not know, and why."""
    [role] = [each for each in json.loads(done.stdout)["resources"] if each["name"] == f"{HOST}/base"]
    assert not [each for each in role["differences"] if not each["unknown"]], role["differences"]
    return {f"{each['claim']}.{each['property']}": each["actual"]["unknown"] for each in role["differences"]}
