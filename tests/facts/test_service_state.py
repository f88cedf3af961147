"""The directories of services, and the files that a host makes for them: who may write there, names and dates."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from rackwright.facts.facts import Facts
from rackwright.facts.probe import service_state
from rackwright.facts.probe.observe import ReadError
from rackwright.kinds.role.entries.entry import Entry
from rackwright.kinds.role.entries.files import StateEntry, VariablesEntry
from rackwright.kinds.role.entries.services import CertificateEntry
from rackwright.kinds.role.observe import observe_property
from tests.support.our_roles import REPOSITORY

UNIT = "# alpha/registry: written by rackwright, and put back when it is changed.\n[Service]\n"
ACL = bytes.fromhex("0200000001000700ffffffff02000700e803000004000500ffffffff10000700ffffffff20000500ffffffff")


def differing(entry: Entry, raw: dict[str, Any]) -> list[str]:
    """Return the names of the properties of *entry* that differ in *raw*."""
    claim = entry.claim(REPOSITORY)
    sort, _, key = claim.thing.partition(":")
    facts = Facts(raw)
    return [name for name, want in claim.want.items() if observe_property(facts, sort, key, name, claim) != want]


@pytest.fixture
def top(tmp_path: Path) -> Path:
    units = tmp_path / "etc/systemd/system"
    units.mkdir(parents=True)
    (units / "registry.service").write_text(f"{UNIT}StateDirectory=registry\nReadWritePaths=/srv/warm/registry\n")
    (units / "other.service").write_text("[Service]\nStateDirectory=other\n")
    (units / "server-x.service").write_text(f"{UNIT}ReadWritePaths=/var/lib/other\n")
    for name in ("var/lib/registry/docker", "var/lib/other", "srv/warm/registry"):
        (tmp_path / name).mkdir(parents=True, mode=0o700)
    for name in ("var/lib/registry", "srv/warm/registry"):
        (tmp_path / name).chmod(0o700)
    (tmp_path / "var/lib/registry/accounts.db").touch(0o600)
    (tmp_path / "var/lib/registry/docker").chmod(0o700)
    (tmp_path / "var/lib/registry/link").symlink_to("/tmp")
    return tmp_path


def state(top: Path, path: str = "/var/lib/registry") -> list[str]:
    raw = {"state_directories": service_state.state_directories(str(top))}
    assert {*raw["state_directories"]} == {"/var/lib/registry", "/srv/warm/registry"}
    return differing(StateEntry(state=path, mode="0700", owner="root:root"), raw)


def test_a_directory_with_what_its_service_writes_differs_in_nothing(top: Path) -> None:
    assert state(top) == []


def test_the_access_of_others_to_a_directory_is_found(top: Path) -> None:
    folder = top / "var/lib/registry"
    (folder / "accounts.db").chmod(0o666)
    assert state(top) == ["open"]
    (folder / "accounts.db").chmod(0o600)
    (folder / "docker").chmod(0o777)
    assert state(top) == ["open"]
    (folder / "docker").chmod(0o700)
    folder.chmod(0o777)
    assert state(top) == ["mode"]
    folder.chmod(0o700)
    os.chown(folder, 65534, 65534)
    assert state(top) == ["owner"]


def test_an_access_list_and_a_link_are_found(top: Path) -> None:
    folder = top / "srv/warm/registry"
    try:
        os.setxattr(folder, "system.posix_acl_access", ACL)
    except OSError:
        pytest.skip("the filesystem has no access lists")
    assert "access_list" in state(top, "/srv/warm/registry")
    folder.rmdir()
    folder.symlink_to("/tmp")
    assert "mode" in state(top, "/srv/warm/registry")


@pytest.mark.parametrize(
    ("more", "names"),
    [
        ("", ("KEY",)),
        ("# a comment\n\n", ("KEY",)),
        ("MLFLOW_ALLOW_PICKLE_DESERIALIZATION=true\n", ("KEY", "MLFLOW_ALLOW_PICKLE_DESERIALIZATION")),
        ('X="a\n', ("KEY", "another line")),
        ("Y=a\\\n", ("KEY", "another line")),
        (" LD_PRELOAD=/tmp/x.so\n", ("KEY", "another line")),
    ],
)
def test_names_in_a_file_that_the_host_makes_are_a_fixed_list(
    tmp_path: Path, more: str, names: tuple[str, ...]
) -> None:
    path = "/etc/rackwright/mlflow/session.env"
    file = tmp_path / path.lstrip("/")
    file.parent.mkdir(parents=True)
    file.write_text(f"KEY=0f\n{more}")
    raw = {"service_variables": service_state.variables(str(tmp_path))}

    assert Facts(raw).service_variables(path) == names
    assert "0f" not in str(raw)
    assert bool(differing(VariablesEntry(variables=path, only=("KEY",)), raw)) == (names != ("KEY",))


def make(folder: Path, names: str, days: int, key: str = "tls.key") -> None:
    options = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-subj", "/CN=x", "-days", str(days))
    paths = ("-addext", f"subjectAltName={names}", "-keyout", str(folder / key), "-out", str(folder / "tls.crt"))
    subprocess.run(("openssl", "req", "-x509", *options, *paths), check=True, capture_output=True)


@pytest.mark.parametrize(
    ("names", "days", "key", "found"),
    [
        ("DNS:alpha,IP:127.0.0.1,IP:fd00::1", 3650, "tls.key", []),
        ("DNS:other", 3650, "tls.key", ["names"]),
        ("DNS:alpha,IP:127.0.0.1,IP:fd00::1", 1, "tls.key", ["valid_for_30_days"]),
        ("DNS:alpha,IP:127.0.0.1,IP:fd00::1", 3650, "new.key", ["has_key"]),
    ],
)
def test_a_certificate_for_other_names_or_days_is_found(
    tmp_path: Path, names: str, days: int, key: str, found: list[str]
) -> None:
    path = "/etc/rackwright/mlflow/tls.crt"
    folder = tmp_path / "etc/rackwright/mlflow"
    folder.mkdir(parents=True)
    make(folder, "DNS:first", 3650)
    make(folder, names, days, key)
    taken_at = int((folder / "tls.crt").stat().st_mtime)
    raw = {"service_certificates": service_state.service_certificates(str(tmp_path)), "taken_at": taken_at}

    assert differing(CertificateEntry(certificate=path, names=("alpha", "127.0.0.1", "FD00::1")), raw) == found


def test_a_certificate_that_openssl_does_not_read_is_unknown(tmp_path: Path) -> None:
    (tmp_path / "tls.crt").write_text("nothing")

    with pytest.raises(ReadError):
        service_state.certificate(str(tmp_path / "tls.crt"))
