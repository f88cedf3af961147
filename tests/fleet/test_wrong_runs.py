"""Wrong fleets of runs, each with the whole message that a person gets: ``wrong_runs/*.yaml`` beside ``*.expected``."""

import json
from pathlib import Path

import pytest

from rackwright.core.repository import Roles
from rackwright.errors import DeclarationError
from rackwright.fleet import load_fleet
from rackwright.schema.problem import Problem
from rackwright.schema.secret import Form

WRONG = Path(__file__).parent / "wrong_runs"
USED, TRACKED, CLUSTERED = "pair.yaml", "tracked-pair.yaml", "nodes.yaml"
ROLES = Roles(Path(__file__).parents[2])
FLEETS = sorted(path.name for path in WRONG.glob("*.yaml") if path.name not in (USED, TRACKED, CLUSTERED))
RIGHT = """\
fleet: training
uses: pair.yaml
runs:
  digits:
    recipe: digits
    hosts: [ember, cinder]
    checkpoints: {tier: warm}
    set: {saving: {every_steps: 20}}
    continue: true
"""


@pytest.mark.parametrize("name", FLEETS)
def test_the_whole_message_is_as_written(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(WRONG)

    with pytest.raises(DeclarationError) as caught:
        load_fleet(Path(name), ROLES)

    assert caught.value.render() + "\n" == (WRONG / name).with_suffix(".expected").read_text()


def test_every_message_stands_beside_its_fleet() -> None:
    assert {path.stem for path in WRONG.glob("*.expected")} == {Path(name).stem for name in FLEETS}


@pytest.fixture
def right(tmp_path: Path) -> Path:
    (tmp_path / USED).write_text((WRONG / USED).read_text())
    path = tmp_path / "training.yaml"
    path.write_text(RIGHT)
    return path


def test_a_run_has_the_hosts_of_the_fleet_that_it_uses(right: Path) -> None:
    fleet = load_fleet(right, ROLES)
    run = fleet.runs["digits"]
    config = run.config("digits", 2)

    assert (fleet.fleet, fleet.uses, [*fleet.hosts]) == ("training", USED, ["ember", "cinder", "ash", "soot", "coal"])
    assert (config.world, config.launcher, config.saving.every_steps, config.saving.keep_last) == (2, "horovod", 20, 3)
    assert run.go_on


def test_a_group_is_all_of_its_hosts(right: Path) -> None:
    right.write_text(RIGHT.replace("hosts: [ember, cinder]", "group: pair"))
    fleet = load_fleet(right, ROLES)

    assert fleet.runs["digits"].members(fleet.hosts) == ("ember", "cinder")


def test_what_is_wrong_with_the_hosts_is_reported_where_they_are_declared(right: Path) -> None:
    used = right.with_name(USED)
    used.write_text(used.read_text().replace("os: debian-12", "os: debian-99"))

    with pytest.raises(DeclarationError) as caught:
        load_fleet(right, ROLES)

    assert {error.where.split(":")[0] for error in caught.value.diagnostics} == {str(used)}


def test_only_a_run_with_several_hosts_needs_the_secret(right: Path) -> None:
    def missing(name: str, shortest: int, form: Form | None = None) -> Problem:
        return Problem(f"got a secret {name} without a value", "there is one for each", "Set it")

    with pytest.raises(DeclarationError, match=r"training.yaml:1: key: got a secret training_key without a value"):
        load_fleet(right, ROLES, missing)
    right.write_text(RIGHT.replace("[ember, cinder]", "[ember]"))

    assert load_fleet(right, ROLES, missing).runs


def test_the_key_of_a_servers_client_has_32_characters(right: Path) -> None:
    keys = {"app": {"secret": "app_key"}}
    server = {"model": {"path": "models/digits"}, "hosts": ["ember"], "keys": keys, "listen": "fabric"}
    right.write_text(json.dumps({"fleet": "serving", "uses": USED, "servers": {"digits": server}}))
    asked: list[tuple[str, int]] = []

    load_fleet(right, ROLES, lambda name, shortest, form=None: asked.append((name, shortest)))

    assert asked == [("training_key", 8), ("app_key", 32)]


def test_what_roles_keep_secret_is_of_the_hosts_own_stack(tmp_path: Path) -> None:
    """
    The run's own stack has the password of its account, and no other.
    """
    (tmp_path / TRACKED).write_text((WRONG / TRACKED).read_text())
    path = tmp_path / "training.yaml"
    run = {"recipe": "digits", "hosts": ["ash"], "checkpoints": {"tier": "warm"}}
    runs = {"digits": run | {"tracking": {"host": "ash", "account": "tina"}}}
    path.write_text(json.dumps({"fleet": "training", "uses": TRACKED, "runs": runs}))
    asked: list[tuple[str, int]] = []

    load_fleet(path, ROLES, lambda name, shortest, form=None: asked.append((name, shortest)))

    assert asked == [("mlflow_tina", 12)]


def test_only_fleets_with_hosts_are_proposed_for_uses(right: Path) -> None:
    folder = right.parent
    (folder / "pairs.yaml").write_text("hosts: {web: {}}\n")  # an inventory of another program
    (folder / "pairr.yaml").write_text("fleet: other\nuses: pair.yaml\nhosts: {}\n")
    (folder / "values.yaml").write_text("fleet: x\n")
    right.write_text(RIGHT.replace("pair.yaml", "pairs.yml") + "hosts: {}\n")

    with pytest.raises(DeclarationError) as caught:
        load_fleet(right, ROLES)

    text = caught.value.render()
    assert "a fleet with hosts beside this file: pair.yaml\n" in text and "Write pair.yaml" in text
