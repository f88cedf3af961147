"""The version of a fleet's schema: another one is refused, and a migration keeps comments, order and style."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from rackwright.cli.app import app
from rackwright.core.repository import Roles
from rackwright.errors import DeclarationError
from rackwright.fleet import load_fleet, upgrade
from tests.support.sources import ROOT

ROLES = Roles(ROOT)
FLEET = """\
# the first rack
fleet: rack
{version}hosts:
  alpha:  # beside the door
    os: debian-12
    address: "192.0.2.11"
    identity: {{serial: 'CHASSIS-A'}}
    drives:
      - {{serial: A, bus: nvme, size: 1TB, tier: hot}}  # slot 1
      - {{serial: B, bus: nvme, size: 1TB, tier: hot}}
    tiers:
      hot: {{level: raid1, filesystem: xfs, {mount}: /srv/hot}}{blanks}# fast
"""
OLD = FLEET.format(version="", mount="mount_point", blanks="  ")
NEW = FLEET.format(version="schema_version: 2\n", mount="mount", blanks=" " * 8)  # a comment keeps its column


@pytest.fixture
def second_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """A schema whose version 1 had another name for a tier's mount."""

    def rename_mounts(content: Any) -> None:
        for host in content["hosts"].values():
            for tier in host["tiers"].values():
                upgrade.rename(tier, "mount_point", "mount")

    monkeypatch.setattr(upgrade, "MIGRATIONS", (rename_mounts,))
    monkeypatch.setattr(upgrade, "SCHEMA_VERSION", 2)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "Pulumi.yaml").write_text("name: rack\n")
    (tmp_path / "stacks").mkdir()
    (tmp_path / "stacks/Pulumi.lab.yaml").write_text("config: {}\n")
    (tmp_path / "stacks/rack.lock.yaml").write_text("fleet: rack\n")
    (tmp_path / "stacks/rack.yaml").write_text(OLD)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refusal(fleet: Path) -> str:
    with pytest.raises(DeclarationError) as refused:
        load_fleet(fleet, ROLES)
    return str(refused.value)


@pytest.mark.parametrize(
    ("version", "help"),
    [
        ("2", "Install the version of rackwright that wrote the file, or a newer one"),
        ("0", "Write `schema_version: 1`, or remove the line"),
        ("true", "Write `schema_version: 1`, or remove the line"),
        ("new", "Write `schema_version: 1`, or remove the line"),
    ],
)
def test_a_version_that_this_rackwright_does_not_know_is_the_only_error(version: str, help: str, project: Path) -> None:
    fleet = Path("stacks/rack.yaml")
    fleet.write_text(FLEET.format(version=f"schema_version: {version}\n", mount="mount_point", blanks="  "))

    value = {"true": "True", "new": "'new'"}.get(version, version)
    assert refusal(fleet) == (f"stacks/rack.yaml:3: schema_version: got schema version {value}; version 1. {help}.")


def test_an_earlier_version_is_refused_with_the_command(second_version: None, project: Path) -> None:
    assert refusal(Path("stacks/rack.yaml")) == (
        "stacks/rack.yaml:1: schema_version: got schema version 1; version 2. "
        "Run `rackwright upgrade --check`, then `rackwright upgrade --write`."
    )


def test_a_migration_changes_its_keys_and_nothing_else(second_version: None, project: Path) -> None:
    checked = CliRunner().invoke(app, ["upgrade", "--check"])

    assert checked.exit_code == 1
    assert [line for line in checked.output.splitlines() if line[:1] in "+-"] == [
        "--- stacks/rack.yaml",
        "+++ stacks/rack.yaml",
        "+schema_version: 2",
        "-      hot: {level: raid1, filesystem: xfs, mount_point: /srv/hot}  # fast",
        "+      hot: {level: raid1, filesystem: xfs, mount: /srv/hot}        # fast",
    ]
    assert (project / "stacks/rack.yaml").read_text() == OLD

    printed = CliRunner().invoke(app, ["upgrade", "--check", "--json"])
    assert (printed.exit_code, json.loads(printed.stdout)["written"]) == (1, False)
    assert json.loads(printed.stdout)["diffs"] == {"stacks/rack.yaml": checked.output}

    written = CliRunner().invoke(app, ["upgrade", "--write"])
    assert (written.exit_code, written.output) == (0, "wrote   stacks/rack.yaml\n")
    assert (project / "stacks/rack.yaml").read_text() == NEW
    assert load_fleet(project / "stacks/rack.yaml", ROLES).hosts["alpha"].tiers["hot"].mount == "/srv/hot"
    assert CliRunner().invoke(app, ["upgrade", "--check"]).exit_code == 0


@pytest.mark.parametrize("indent", ["", "  "])
def test_a_migration_keeps_the_indentation_of_lists(indent: str, second_version: None, project: Path) -> None:
    items = "".join(f"    {indent}- {{serial: {serial}, boot: true}}\n" for serial in "AB")
    text = "fleet: rack\n{}hosts:\n  alpha:\n    tiers: {{}}\n    drives:  # two\n" + items.replace("{", "{{").replace(
        "}", "}}"
    )
    (project / "stacks/rack.yaml").write_text(text.format(""))

    CliRunner().invoke(app, ["upgrade", "--write"])

    assert (project / "stacks/rack.yaml").read_text() == text.format("schema_version: 2\n")


def test_a_file_without_a_version_has_the_first(project: Path) -> None:
    assert upgrade.SCHEMA_VERSION == 1
    assert CliRunner().invoke(app, ["upgrade", "--check"]).exit_code == 0


def test_the_json_schema_for_editors_is_renewed(project: Path) -> None:
    schema = project / ".vscode/fleet.schema.json"
    schema.parent.mkdir()
    schema.write_text("{}\n")

    assert CliRunner().invoke(app, ["upgrade", "--write"]).output == "wrote   .vscode/fleet.schema.json\n"
    assert CliRunner().invoke(app, ["upgrade", "--check"]).exit_code == 0


def test_a_renamed_key_keeps_its_comment(project: Path) -> None:
    from ruamel.yaml import YAML

    content = YAML().load("a: 1\nb: 2  # why\nc: 3\n")
    upgrade.rename(content, "b", "better")

    assert list(content) == ["a", "better", "c"]
    assert content.ca.items["better"][2].value == "# why\n"
