"""Keys and certificates of the example fleets: no real rack trusts them, and twins do."""

import json
import re
import shutil
from pathlib import Path

import pytest
import yaml

from rackwright.errors import DeclarationError
from rackwright.fleet.source import read
from rackwright.fleet.text_files import with_text_files
from rackwright.stack import load_stack, published
from tests.support.access_role import public_key
from tests.support.sources import ROOT
from tests.support.stack_settings import configure, new_project

EXAMPLES = ["bank/bank.yaml", "cold.yaml", "factory/factory.yaml", "hospital/hospital.yaml", "rack-full.yaml"]
"""The example fleets with a key or a certificate."""


def texts(value: object) -> list[str]:
    """Return all texts in *value* with a key or a certificate."""
    if isinstance(value, dict | list):
        return [text for each in (value.values() if isinstance(value, dict) else value) for text in texts(each)]
    return [value] if isinstance(value, str) and re.search("BEGIN CERTIFICATE|^(ssh|ecdsa|sk)-", value) else []


def refusal(project: Path, stack: str = "real") -> str:
    with pytest.raises(DeclarationError) as refused:
        load_stack(stack, project)
    return str(refused.value)


def fleet(**host: object) -> str:
    alpha = {"address": "192.0.2.1", "identity": {"serial": "a"}, "os": "debian-12", **host}
    return json.dumps({"fleet": "real", "hosts": {"alpha": alpha}})


@pytest.fixture
def authority() -> str:
    """The SSH authority of the example hospital."""
    data = yaml.safe_load((ROOT / "stacks/hospital/hospital.yaml").read_text())
    return str(data["groups"]["servers"]["roles"]["access"]["ca_keys"][0])


def access(key: str) -> dict[str, object]:
    return {"base": {}, "access": {"automation": {"user": "deploy"}, "ca_keys": [key], "bootstrap_user": "admin"}}


def test_every_example_with_a_key_is_known():
    with_keys = [
        path.relative_to(ROOT / "stacks").as_posix()
        for path in sorted((ROOT / "stacks").rglob("*.yaml"))
        if not path.name.startswith("Pulumi.") and texts(yaml.safe_load(path.read_text()))
    ]
    assert with_keys == EXAMPLES


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_key_and_certificate_of_an_example_is_known(name):
    found = texts(yaml.safe_load((ROOT / "stacks" / name).read_text()))

    assert found
    assert [
        text for text in found if not published.fingerprints(text).keys() & published.example_fingerprints().keys()
    ] == []


def test_keys_of_an_example_are_refused_together_with_missing_secrets(tmp_path, monkeypatch):
    project = new_project(tmp_path, monkeypatch, {})
    (project / "stacks/real.yaml").write_text((ROOT / "stacks/hospital/hospital.yaml").read_text())
    shutil.copytree(ROOT / "stacks/hospital", project / "stacks", dirs_exist_ok=True)
    configure(project, "real", "real.yaml", "rack")

    message = refusal(project)

    assert "got a secret mlflow_admin without a value" in message
    assert "got an SSH key of the example hospital" in message


@pytest.mark.parametrize("used", ["../other.yaml", "real.yaml", "absent.yaml", "", "[]"])
def test_a_wrong_name_of_the_used_fleet_is_an_error_of_the_loader_alone(tmp_path, monkeypatch, used):
    project = new_project(tmp_path, monkeypatch, {})
    (project / "stacks/real.yaml").write_text(f"fleet: a\nuses: {used}\nservers: {{}}\n")
    configure(project, "real", "real.yaml", "rack")

    assert "of the example" not in refusal(project)


@pytest.mark.parametrize("name", ["bank", "factory", "hospital"])
def test_a_real_rack_with_the_keys_of_an_example_is_refused_at_each_place(tmp_path, monkeypatch, name):
    project = new_project(tmp_path, monkeypatch, {})
    text = (ROOT / f"stacks/{name}/{name}.yaml").read_text()
    (project / "stacks/real.yaml").write_text(text)
    shutil.copytree(ROOT / f"stacks/{name}", project / "stacks", dirs_exist_ok=True)
    monkeypatch.setattr("rackwright.stack.load.read_secret_lengths", lambda *_: AnySecret())
    configure(project, "real", "real.yaml", "rack")

    message = refusal(project)

    line = next(number for number, each in enumerate(text.splitlines(), 1) if "ca_keys: [" in each)
    assert f"stacks/real.yaml:{line}: " in message
    assert f"got an SSH key of the example {name}; a real rack trusts only keys of its owner" in message
    assert message.count(f"of the example {name};") == len(
        texts(with_text_files(read(project / "stacks/real.yaml")).data)
    )


class AnySecret(dict[str, int]):
    """The lengths of secrets that all have a value."""

    def __contains__(self, name: object) -> bool:
        return True

    def get(self, name: str, default: int | None = None) -> int:  # type: ignore[override]
        return 512


@pytest.mark.parametrize("comment", ["", " of our own"])
def test_another_comment_or_another_place_makes_no_other_key(tmp_path, monkeypatch, authority, comment):
    key = " ".join(authority.split()[:2]) + comment
    project = new_project(tmp_path, monkeypatch, {"real.yaml": fleet(roles=access(key))})
    configure(project, "real", "real.yaml", "rack")

    assert "ca_keys" in refusal(project)
    configure(project, "real", "real.yaml", "twin:real")
    assert load_stack("real", project).twin == "real"


def test_a_fleet_in_python_is_refused_as_well(tmp_path, monkeypatch, authority):
    declared = fleet(roles=access(authority))
    text = f"from rackwright.schema import Fleet\n\n\ndef fleet():\n    return Fleet.model_validate({declared})\n"
    project = new_project(tmp_path, monkeypatch, {"real.py": text})
    configure(project, "real", "real.py", "rack")

    assert "hosts.alpha.roles.access.ca_keys" in refusal(project)


def test_a_new_certificate_for_a_published_key_is_the_same_key():
    """The fingerprint is of the key, as the holder of its private half can issue any certificate."""
    from datetime import UTC, datetime, timedelta

    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.serialization import Encoding

    key, now, found = generate_private_key(SECP256R1()), datetime.now(UTC), []
    for number in (1, 2):
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"authority {number}")])
        builder = x509.CertificateBuilder(name, name, key.public_key(), number, now, now + timedelta(1))
        found.append(published.fingerprints(builder.sign(key, SHA256()).public_bytes(Encoding.PEM).decode()))

    assert found[0] == found[1] and [*found[0].values()] == ["a certificate"]


def test_ones_own_keys_are_taken(tmp_path, monkeypatch):
    project = new_project(tmp_path, monkeypatch, {"real.yaml": fleet(roles=access(public_key(7, "own")))})
    configure(project, "real", "real.yaml", "rack")

    assert load_stack("real", project).twin is None
