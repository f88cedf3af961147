"""Texts of a fleet in files: one certificate for several roles and a store, one key for two roles."""

import json
import os
from pathlib import Path

import jsonschema
import pytest

from rackwright.errors import DeclarationError
from rackwright.fleet.json_schema import schema
from rackwright.fleet.load import load_fleet
from rackwright.fleet.source import read
from rackwright.fleet.text_files import BYTES_MAX
from rackwright.schema.fleet import Fleet
from rackwright.stack import published
from tests.support.our_roles import ROLES
from tests.support.sources import ROOT

PEM = "-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n"
KEY = "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmQ==\n-----END PGP PUBLIC KEY BLOCK-----\n"
FLEET = """\
fleet: example
groups:
  gpus:
    os: debian-12
    roles:
      base: {}
      nvidia_driver: {source: vendor, version: "580", repository_key: {file: keys/vendor.asc}}
      cuda: {source: vendor, versions: ["13.0"], repository_key: {file: keys/vendor.asc}}
      access: {automation: {user: deploy, principals: [deploy]}, ca_keys: [{file: keys/authority.pub}]}
hosts:
  alpha: {group: gpus, address: 192.0.2.1, identity: {serial: S}}
object_stores:
  archive: {url: "https://192.0.2.2:8333", ca: {file: ca.pem}, credentials: {access_key: a, secret_key: {secret: k}}}
"""
PUBLIC = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOWUxuFa00DGK825sR0VBISlOVAqwPymyqQp+UA2kIPD authority"


@pytest.fixture
def fleet(tmp_path: Path) -> Path:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys/vendor.asc").write_text(KEY)
    (tmp_path / "keys/authority.pub").write_text(f"{PUBLIC}\n")
    (tmp_path / "ca.pem").write_text(PEM)
    path = tmp_path / "fleet.yaml"
    path.write_text(FLEET)
    return path


def load(path: Path) -> Fleet:
    return load_fleet(path, ROLES)


def errors(path: Path) -> list[str]:
    with pytest.raises(DeclarationError) as error:
        load(path)
    return [f"{each.where.partition(': ')[2]}: {each.problem}" for each in error.value.diagnostics]


def test_a_file_stands_for_its_text_wherever_a_text_may_be_shared(fleet: Path) -> None:
    roles, store = load(fleet).hosts["alpha"].roles, load(fleet).object_stores["archive"]

    assert roles["nvidia_driver"]["repository_key"] == roles["cuda"]["repository_key"] == KEY
    assert roles["access"]["ca_keys"] == [PUBLIC]
    assert store.ca == PEM
    jsonschema.validate(read(fleet).data, json.loads(json.dumps(schema(ROLES))))


def test_a_text_of_another_form_is_an_error_at_its_line(fleet: Path) -> None:
    (fleet.parent / "keys/vendor.asc").write_text("no key\n")

    assert [each.partition(": got")[0] for each in errors(fleet)] == [
        f"groups.gpus.roles.{role}.repository_key" for role in ("nvidia_driver", "cuda")
    ]


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("keys/none.asc", "which cannot be read: No such file or directory"),
        ("../outside.asc", "which is no text beside the fleet: ../outside.asc has a part '..'"),
        ("/etc/hostname", "which is no text beside the fleet"),
        ("keys/link.asc", "which is no text beside the fleet: keys/link.asc is a link or another special file"),
        ("keys/pipe", "which is no text beside the fleet: keys/pipe is"),
        ("keys/binary", "which is no text beside the fleet: it is not UTF-8"),
        ("keys/large", "which is no text beside the fleet"),
        ("keys", "which is no text beside the fleet: keys is no regular file"),
    ],
)
def test_only_a_small_text_below_the_folder_of_the_fleet_is_read(fleet: Path, name: str, problem: str) -> None:
    keys = fleet.parent / "keys"
    (fleet.parent.parent / "outside.asc").write_text(KEY)
    (keys / "link.asc").symlink_to("/etc/hostname")
    (keys / "binary").write_bytes(b"\xff\xfe")
    (keys / "large").write_bytes(b"x" * (BYTES_MAX + 1))
    os.mkfifo(keys / "pipe")
    fleet.write_text(FLEET.replace("ca: {file: ca.pem}", f"ca: {{file: {name}}}"))

    [found] = errors(fleet)
    assert found.startswith("object_stores.archive.ca: got ") and problem in found


def test_all_missing_files_come_at_once(fleet: Path) -> None:
    (fleet.parent / "keys/vendor.asc").unlink()
    (fleet.parent / "ca.pem").unlink()

    assert len(errors(fleet)) == 3


def test_the_other_words_of_a_fleet_may_be_file(fleet: Path) -> None:
    fleet.write_text(FLEET + "buckets: {file: {store: archive}}\n")

    assert "file" in load(fleet).buckets


def test_a_rack_does_not_trust_the_certificate_of_an_example_in_a_file(fleet: Path) -> None:
    example = (ROOT / "stacks/hospital/certificates/authority.pem").read_text()
    (fleet.parent / "ca.pem").write_text(example)

    with pytest.raises(DeclarationError, match="got a certificate of the example hospital"):
        published.check(fleet, load(fleet))
