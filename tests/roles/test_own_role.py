"""The role of the guide `own-role`: its files, as written there, are a role that a fleet declares."""

import re
import textwrap
from pathlib import Path

import pytest

from rackwright.core.repository import Repository
from rackwright.errors import UserError
from rackwright.fleet import load_fleet
from rackwright.kinds.role import RoleKind
from tests.support.log import ROOT
from tests.support.role_spec import SPEC

GUIDE = (ROOT / "docs" / "guides" / "own-role.md").read_text()
FILE = re.compile(r"^`(roles/banner/[^`]+)`[^\n]*\n(?:[^\n]+\n)*\n((?:    .*\n)+|```text\n(?:.*\n)*?```\n)", re.M)
FLEET = """\
fleet: small
ssh: {{logins: [{{name: admin, user: root, agent: true}}]}}
hosts:
  gpu-01:
    profile: virtual
    os: debian-12
    address: 10.20.0.11
    identity: {{serial: SN-0001}}
    roles: {{banner: {variables}}}
"""


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    for name, content in FILE.findall(GUIDE):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(textwrap.dedent(content))
    return Repository.load(tmp_path, b"salt")


def test_the_guide_has_six_files() -> None:
    assert len(FILE.findall(GUIDE)) == 6


def test_the_role_claims_its_file_with_the_rendered_text(repository: Repository) -> None:
    spec = SPEC.model_copy(update={"role": "banner", "variables": {"text": "Access is logged."}})

    wants = {claim.thing: claim.want for claim in RoleKind().claims(spec, repository)}

    assert wants["file:/etc/motd"]["content"] == repository.digest("Access is logged.\n")


def test_a_fleet_declares_its_variable_and_no_other_one(repository: Repository, tmp_path: Path) -> None:
    file = tmp_path / "fleet.yaml"
    file.write_text(FLEET.format(variables="{text: Access is logged.}"))
    assert "banner" in load_fleet(file, repository.roles).hosts["gpu-01"].roles

    file.write_text(FLEET.format(variables="{words: Access is logged.}"))
    with pytest.raises(UserError, match="words"):
        load_fleet(file, repository.roles)
