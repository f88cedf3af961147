"""`check` refuses runs and servers on hosts that have no Python environment for them."""

from pathlib import Path

import pytest

from rackwright.errors import DeclarationError
from rackwright.stack import feasible, load_stack
from rackwright.stack.missing_environments import DECLARED, LENT, missing_environments
from tests.support.log import ROOT
from tests.support.server_stack import declare_environments, project
from tests.support.stack_settings import configure, new_project

__all__ = ["project"]


def test_hosts_without_the_role_need_a_declared_environment(project: Path) -> None:
    with pytest.raises(DeclarationError) as caught:
        feasible.check(load_stack("serving", project))

    problems = {each.where.rpartition(" ")[2]: each for each in caught.value.diagnostics}
    assert {*problems} == {"servers.digits", "servers.plain"}
    assert problems["servers.digits"].problem == "got cinder, where role workloads makes none"
    assert problems["servers.digits"].expected == "the environment serving or training on all of its hosts"
    assert "of role workloads of cinder, ember, or declare `environment: {path: …}`" in problems["servers.digits"].help

    declare_environments(project)
    assert feasible.check(load_stack("serving", project))


def test_a_host_with_the_role_says_which_environments_it_makes(project: Path) -> None:
    pair = project / "stacks" / "pair.yaml"
    declare_environments(project)
    serving = project / "stacks" / "serving.yaml"
    serving.write_text(serving.read_text().replace("    environment: {path: /opt/serving}\n", "", 1))
    text = pair.read_text()
    assert "roles:" not in text
    pair.write_text(text.replace("    os: debian-12\n", f"    os: debian-12\n{ROLE}"))

    with pytest.raises(DeclarationError, match="got cinder, where role workloads makes vllm; the environment serving"):
        feasible.check(load_stack("serving", project))


def test_a_run_gets_the_declaration_of_a_loan_if_the_twin_lends_one(tmp_path: Path, monkeypatch) -> None:
    pair = (Path(__file__).parents[1] / "fleet/wrong_runs/pair.yaml").read_text()
    runs = "fleet: runs\nuses: pair.yaml\nruns: {one: {recipe: digits, hosts: [cinder], checkpoints: {tier: warm}}}\n"
    new_project(tmp_path, monkeypatch, {"pair.yaml": pair, "runs.yaml": runs})
    configure(tmp_path, "runs", fleet="runs.yaml", target="twin:lab")
    for workloads, help in (({}, DECLARED), ({"workloads": "lent"}, LENT)):
        configure(tmp_path, "lab", fleet="pair.yaml", target="twin:lab", containers=["cinder"], **workloads)
        [found] = missing_environments(load_stack("runs", tmp_path))
        assert found.help.endswith(f"or declare {help}")


def test_a_host_for_which_the_role_is_not_gets_another_way_out(project: Path) -> None:
    pair = project / "stacks" / "pair.yaml"
    pair.write_text(pair.read_text().replace("debian-12", "ubuntu-22.04"))

    with pytest.raises(DeclarationError) as caught:
        feasible.check(load_stack("serving", project))
    help = next(each.help for each in caught.value.diagnostics if each.where.endswith("servers.digits"))

    assert help.startswith("Make an environment on cinder, ember by hand: role workloads is for debian-12")
    assert "Add " not in help and help.endswith(f"Then declare {DECLARED}")


@pytest.mark.parametrize("name", [path.name.split(".")[1] for path in sorted(ROOT.glob("stacks/Pulumi.*.yaml"))])
def test_the_stacks_of_the_repository_lack_no_environment(name: str) -> None:
    assert [*missing_environments(load_stack(name, ROOT))] == []


ROLE = "    roles: {base: {}, workloads: {environments: [vllm]}}\n"
