"""Secrets in a fleet: a reference for each, and errors at the place of the reference."""

from pathlib import Path

import pytest

from rackwright.errors import DeclarationError
from rackwright.schema.secret import derive_value, parse_values
from rackwright.stack import declare, load_stack
from tests.support.fleet_with_secrets import BOTH, FIRST, FLEET, configure, encrypted


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "stacks").mkdir()
    (tmp_path / "stacks" / "example.yaml").write_text(FLEET)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refusals(project: Path) -> list[str]:
    with pytest.raises(DeclarationError) as caught:
        load_stack("lab", project)
    return str(caught.value).splitlines()


def test_each_secret_without_a_value_is_one_error_with_the_command_that_sets_it(project: Path) -> None:
    """
    At the line of its reference, once for all hosts of a group, and nothing was connected to.
    """
    place = "stacks/example.yaml:{line}: groups.all.roles.base.ntp_keys[{index}].key"
    text = (
        ": got a secret {name} without a value; stack lab has a value for each secret."
        " Run `rackwright secret set lab {name}` with the value that its service has already."
    )
    first = (place + text).format(line=9, index=0, name="first_key")
    second = (place + text).format(line=10, index=1, name="second_key")

    configure(project)
    assert refusals(project) == [first, second]
    configure(project, FIRST)
    assert refusals(project) == [second]


def test_where_all_are_set_the_values_are_sealed_and_the_inputs_hold_references(project: Path) -> None:
    configure(project, BOTH)
    stack = load_stack("lab", project)

    assert stack.unknown_secrets == {"first_key", "second_key"}
    assert stack.repository.secrets == {}
    role = next(resource for resource in declare(stack) if resource.name == "alpha/base")
    assert role.inputs["variables"]["ntp_keys"][0]["key"] == {"secret": "first_key"}
    assert stack.with_secrets({"first_key": "a value"}).unknown_secrets == {"second_key"}


TIER = """\
fleet: example
hosts:
  alpha:
    address: 192.0.2.1
    identity: {serial: S-ALPHA}
    os: debian-12
    tiers:
      hot: {level: raid1, filesystem: xfs, mount: /srv/hot, encryption: {key: {secret: first_key}}}
    drives:
      - {serial: DISK-0, bus: nvme, size: 1.92TB, tier: hot}
      - {serial: DISK-1, bus: nvme, size: 1.92TB, tier: hot}
"""


def test_the_key_of_a_tier_is_a_secret_like_others(project: Path) -> None:
    (project / "stacks" / "example.yaml").write_text(TIER)
    configure(project)
    assert refusals(project) == [
        "stacks/example.yaml:8: hosts.alpha.tiers.hot.encryption.key: got a secret first_key without a value; stack lab"
        " has a value for each secret. Run `rackwright secret generate lab` for all that may be random, or"
        " `rackwright secret set lab first_key` for a value of your own."
    ]
    configure(project, FIRST)
    stack = load_stack("lab", project)

    assert stack.unknown_secrets == {"first_key"}
    [tier] = [resource for resource in declare(stack) if resource.name == "alpha/hot"]
    assert tier.inputs["declared"]["encryption"]["key"] == {"secret": "first_key"}


def test_on_a_twin_a_value_that_is_not_set_is_the_same_each_time(project: Path) -> None:
    configure(project, FIRST, target="twin:lab")
    stack = load_stack("lab", project)

    assert stack.unknown_secrets == {"first_key"}
    assert stack.repository.secrets == {"second_key": derive_value("second_key")}
    assert derive_value("second_key") != derive_value("first_key")
    assert derive_value("ntp_key") == "3a1cd8c5cbc85cccf0ef92fcacba45761857d973668fdc7186103b0bb2a3e2d7"


def test_on_a_rack_none_is_derived(project: Path) -> None:
    configure(project, BOTH)

    assert derive_value("first_key") not in load_stack("lab", project).repository.secrets.values()


@pytest.mark.parametrize(
    ("secrets", "message"),
    [
        (
            "    first_key: in-the-clear\n",
            "stacks/Pulumi.lab.yaml:5: config.rackwright:secrets.first_key: got a value in clear; each secret is"
            " encrypted by itself, under its name. Choose another value, as this one is exposed, and run"
            " `rackwright secret set lab first_key`.",
        ),
        (
            "    secure: v1:aaaa:bbbb\n",
            "stacks/Pulumi.lab.yaml:4: config.rackwright:secrets: got no names; each secret is encrypted by itself,"
            " under its name. Remove it, and run `rackwright secret set lab NAME` for each.",
        ),
        (
            "    First-Key: {secure: v1:aaaa:bbbb}\n",
            "stacks/Pulumi.lab.yaml:4: config.rackwright:secrets: got the secret 'First-Key'; the name of a secret has"
            " small letters, digits and _ after a letter, 63 at most. Write {secret: first_key}.",
        ),
    ],
)
def test_settings_that_hold_no_secrets_are_reported_without_what_they_hold(project: Path, secrets, message) -> None:
    configure(project, secrets)

    assert refusals(project) == [message]
    assert "in-the-clear" not in message


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("{secret: First-Key}", "got the secret 'First-Key'; the name of a secret has small letters, digits and _"),
        ("{secret: 5}", "got the secret 5; the name of a secret"),
        ("{secret: [a]}", "got the secret ['a']; the name of a secret"),
    ],
)
def test_a_name_that_is_none_is_reported_where_it_stands(project: Path, written: str, expected: str) -> None:
    (project / "stacks" / "example.yaml").write_text(FLEET.replace("{secret: first_key}", written))
    configure(project, BOTH)

    [error] = refusals(project)
    assert error.startswith(f"stacks/example.yaml:9: groups.all.roles.base.ntp_keys[0].key: {expected}")


def test_a_secret_is_a_text_and_of_no_other_type(project: Path) -> None:
    (project / "stacks" / "example.yaml").write_text(FLEET.replace("id: 1", "id: {secret: first_key}"))
    configure(project, BOTH)

    [error] = refusals(project)
    assert "ntp_keys[0].id: got 'the secret first_key'; a whole number" in error


PYTHON = """\
from rackwright.schema import Fleet, Host, Identity

KEYS = [{"id": 1, "type": "SHA256", "key": {"secret": "third_key"}, "servers": []}]


def fleet() -> Fleet:
    roles = {"base": {"ntp_keys": KEYS}}
    host = Host(address="192.0.2.1", identity=Identity(serial="S1"), os="debian-12", roles=roles)
    return Fleet(fleet="example", hosts={"a": host})
"""


def test_a_fleet_in_python_has_references_too(project: Path) -> None:
    (project / "stacks" / "example.py").write_text(PYTHON)
    configure(project)
    settings = project / "stacks" / "Pulumi.lab.yaml"
    settings.write_text(settings.read_text().replace("example.yaml", "example.py"))

    [error] = refusals(project)
    assert error.startswith("stacks/example.py: hosts.a.roles.base.ntp_keys[0].key: got a secret third_key without")


@pytest.mark.parametrize(
    ("text", "expected"), [('{"a": "short"}', "got 5 characters"), ('{"a": 12345678}', "got a int")]
)
def test_a_value_that_cannot_be_a_secret_is_reported_without_it(text: str, expected: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        parse_values(text, "lab")

    assert str(caught.value) == (
        f"rackwright:secrets.a: {expected}; a secret is a text of 8 characters or more."
        " Run `rackwright secret set lab a`."
    )
    assert parse_values("", "lab") == {}


TRACKING = """\
fleet: example
hosts:
  alpha:
    address: 192.0.2.1
    identity: {serial: S-ALPHA}
    os: debian-12
    roles: {base: {}, mlflow: {admin: {name: admin, password: {secret: first_key}}}}
"""
SET_FIRST = "Run `rackwright secret set lab first_key` with a longer value."


@pytest.mark.parametrize("target", ["rack", "twin:lab"])
@pytest.mark.parametrize(
    ("fleet", "place", "shortest"),
    [
        (TIER, "stacks/example.yaml:8: hosts.alpha.tiers.hot.encryption.key", 20),
        (TRACKING, "stacks/example.yaml:7: hosts.alpha.roles.mlflow.admin.password", 12),
    ],
    ids=["tier", "role"],
)
def test_a_secret_that_is_too_short_for_its_use_is_one_error(project, fleet, place, shortest, target) -> None:
    """
    No passphrase is needed: the length of a ciphertext shows the length of the value.
    """
    (project / "stacks" / "example.yaml").write_text(fleet)
    configure(project, f"    first_key: {encrypted(shortest - 1)}\n", target)
    assert refusals(project) == [
        f"{place}: the secret first_key has {shortest - 1} bytes; {shortest} characters or more. {SET_FIRST}"
    ]

    configure(project, f"    first_key: {encrypted(shortest)}\n", target)
    assert load_stack("lab", project).unknown_secrets == {"first_key"}


def test_a_secret_that_is_too_short_for_any_use_is_an_error_of_the_settings(project: Path) -> None:
    configure(project, f"{FIRST}    second_key: {encrypted(7)}\n")

    [error] = refusals(project)
    assert error.startswith("stacks/Pulumi.lab.yaml:6: config.rackwright:secrets.second_key: the secret second_key has")
