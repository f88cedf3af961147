"""Hosts that a twin leaves out, and retired hosts: no part of a fleet needs them."""

import shutil
from pathlib import Path

import pytest

from rackwright.errors import DeclarationError
from rackwright.stack import load_stack

STACKS = Path(__file__).parents[2] / "stacks"
NAMES = "Remove it here, or from rackwright:without"
RETIRED = "Remove it here, or remove `retired: true` of {}"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with the factory, the cluster and the cold tier."""
    monkeypatch.delenv("RACKWRIGHT_SALT_FILE", raising=False)
    monkeypatch.chdir(tmp_path)
    shutil.copytree(STACKS, tmp_path / "stacks", ignore=shutil.ignore_patterns("__pycache__", "*.py"))
    return tmp_path


def change(path: Path, before: str, after: str) -> None:
    text = path.read_text()
    assert text.count(before) == 1, path
    path.write_text(text.replace(before, after))


def leave_out(project: Path, stack: str, names: str) -> None:
    change(
        project / f"stacks/Pulumi.{stack}.yaml",
        "  rackwright:containers:",
        f"  rackwright:without: {names}\n  rackwright:containers:",
    )


def retire(project: Path, fleet: str, host: str) -> None:
    change(project / "stacks" / fleet, f"\n  {host}:\n", f"\n  {host}:\n    retired: true\n")


def problems(stack: str, project: Path) -> list[tuple[str, str, str]]:
    """Return the place without its line, the problem and the help of each error of *stack*."""
    with pytest.raises(DeclarationError) as caught:
        load_stack(stack, project)
    return [(each.where.split(": ")[-1], each.problem, each.help) for each in caught.value.diagnostics]


def test_a_twin_leaves_a_host_out_and_the_rest_works_without_it(project: Path) -> None:
    leave_out(project, "factory", "[edge-02]")

    stack, models = load_stack("factory", project), load_stack("factory-models", project)

    assert [*stack.fleet.hosts] == ["train-01", "edge-01"]
    assert stack.containers == {"train-01", "edge-01"}  # the list of containers may go on naming it
    assert stack.retired == {"edge-02"}
    assert "edge-02: left out of the twin" in stack.notices
    targets = stack.fleet.hosts["train-01"].variables("prometheus")["targets"]
    assert {target["instance"] for target in targets} == {"train-01", "edge-01"}
    assert models.fleet.servers["parts"].members(models.fleet.hosts) == ("edge-01",)


def test_a_retired_host_needs_no_other_change(project: Path) -> None:
    retire(project, "factory/factory.yaml", "edge-02")

    stack, models = load_stack("factory", project), load_stack("factory-models", project)

    assert stack.containers == {"train-01", "edge-01"}
    assert "edge-02: retired, and left as it is" in stack.notices
    assert models.fleet.servers["parts"].members(models.fleet.hosts) == ("edge-01",)


@pytest.mark.parametrize(
    ("value", "problem", "help"),
    [
        ("edge-02", "got 'edge-02'", "Write it like [NAME, …]"),
        ("[edge-3]", "got 'edge-3'", "Write edge-02"),
        ("[5]", "got [5]", "Write it like [NAME, …]"),
    ],
)
def test_the_setting_is_a_list_of_hosts(value: str, problem: str, help: str, project: Path) -> None:
    leave_out(project, "factory", value)

    [(place, found, remedy)] = problems("factory", project)

    assert place.startswith("config.rackwright:without")
    assert (found, remedy) == (problem, help)


def test_a_rack_leaves_no_host_out(project: Path) -> None:
    change(project / "stacks/Pulumi.lab.yaml", "twin:lab", "rack\n  rackwright:without: [node-01]")

    found = [each for each in problems("lab", project) if each[0] == "config.rackwright:without"]

    assert found == [("config.rackwright:without", "got ['node-01']", "Remove it, or set target to twin:lab")]


@pytest.mark.parametrize(
    ("stack", "fleet", "host", "places"),
    [
        ("factory", "factory/factory.yaml", "train-01", ["placement.checkpoints.hosts[0]", "monitoring.host"]),
        ("cluster", "cluster.yaml", "node-02", ["clusters.main.nodes.node-02"]),
        ("cluster", "cluster.yaml", "cp-01", ["clusters.main.control_plane"]),
        ("cold", "cold.yaml", "store-02", ["object_stores.archive.hosts[1]"]),
    ],
)
@pytest.mark.parametrize("way", ["without", "retired"])
def test_a_part_of_the_fleet_that_needs_the_host_is_named(
    way: str, stack: str, fleet: str, host: str, places: list[str], project: Path
) -> None:
    if way == "without":
        leave_out(project, stack, f"[{host}]")
        problem, help = f"got {host}, which the twin leaves out", NAMES
    else:
        retire(project, fleet, host)
        problem, help = f"got {host}, which is retired", RETIRED.format(host)

    assert sorted(problems(stack, project)) == sorted((place, problem, help) for place in places)


def test_runs_and_servers_that_name_the_host_are_named(project: Path) -> None:
    change(project / "stacks/factory/models.yaml", "    group: edge\n", "    hosts: [edge-01, edge-02]\n")
    change(project / "stacks/factory/models.yaml", "    hosts: [train-01]\n", "    hosts: [edge-02]\n")
    leave_out(project, "factory", "[edge-02]")

    found = problems("factory-models", project)

    places = [
        place for place, problem, help in found if (problem, help) == ("got edge-02, which the twin leaves out", NAMES)
    ]
    assert places == ["runs.parts.hosts[0]", "servers.parts.hosts[1]"]


def test_a_group_whose_hosts_are_all_left_out_serves_nothing(project: Path) -> None:
    leave_out(project, "factory", "[edge-01, edge-02]")

    assert ("servers.parts.group", "got 'edge'") in [each[:2] for each in problems("factory-models", project)]
