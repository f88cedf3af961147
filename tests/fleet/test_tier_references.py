"""A role's variable that names a tier: it becomes where that is mounted, and the role comes after it."""

from pathlib import Path

from rackwright.core.repository import Repository
from rackwright.fleet import load_fleet
from rackwright.kinds.role.spec import RoleSpec
from rackwright.stack import Stack, declare

ROOT = Path(__file__).parents[2]
WRONG = Path(__file__).parent / "wrong/role-tier.yaml"
"""With a tier that the host has not."""


def test_a_tier_is_where_it_is_mounted_and_is_made_before_the_role(tmp_path: Path) -> None:
    repository = Repository.load(ROOT, b"salt")
    path = tmp_path / "example.yaml"
    right = WRONG.read_text().replace("{tier: warn}", "{tier: warm}")
    path.write_text(f"{right}        admin: {{name: admin, password: {{secret: mlflow_admin}}}}\n")
    stack = Stack("lab", ROOT, load_fleet(path, repository.roles), {}, repository, b"salt")

    [role] = [declared for declared in declare(stack) if declared.name == "alpha/mlflow"]
    assert isinstance(role.spec, RoleSpec)
    assert role.spec.variables["artifacts"] == "/srv/warm"
    assert role.after == ("alpha", "alpha/base", "alpha/warm")
