"""The questions of up and destroy: asked on a terminal after the plan is shown, answered by --yes in a pipe."""

import json
import os
import re
import subprocess

import pexpect
import pytest

from tests.pulumi.conftest import ROOT
from tests.pulumi.test_plugin import OneHost, made, obey, project
from tests.support.json_documents import check_printed
from tests.support.recorded_hosts import HOST, blank

__all__ = ["made", "project"]
pytestmark = pytest.mark.pulumi
OTHER = """
  gpu-02:
    profile: virtual
    os: debian-12
    address: {address}
    ssh: {{port: 9}}
    identity: {{serial: RW-GPU-02}}
"""
PROGRAM = str(ROOT / ".venv/bin/rackwright")


def piped(made: OneHost, *arguments: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [PROGRAM, *arguments],
        cwd=made.directory,
        env=os.environ | made.environment,
        stdin=subprocess.DEVNULL,
        text=True,
        capture_output=True,
    )
    check_printed(arguments, done.stdout)
    return done


def typed(made: OneHost, question: str, answer: str, *arguments: str, ahead: str = "") -> tuple[int, str]:
    """Run the command on a terminal, and answer *question* if it is asked; return the exit status and the output.

    Args:
        ahead: A line that is typed when the command starts.
    """
    terminal = pexpect.spawn(
        PROGRAM, [*arguments], timeout=600, cwd=str(made.directory), env=os.environ | made.environment
    )
    if ahead:
        terminal.sendline(ahead)
    if terminal.expect([question, pexpect.EOF]) == 0:
        shown = terminal.before + terminal.after
        terminal.sendline(answer)
        terminal.expect(pexpect.EOF)
    else:
        shown = b""
    shown += terminal.before
    terminal.wait()  # its output has ended, and the process ends a moment later
    terminal.close()
    return terminal.exitstatus, " ".join(shown.decode().split())


def test_up_changes_nothing_without_an_answer(project):
    """
    In a pipe it refuses at once; on a terminal it shows the steps first, and a no leaves the host as it was.
    """
    refused = piped(project, "up", "lab")
    assert refused.returncode == 2
    assert "stdin is no terminal" in refused.stderr
    assert "`rackwright up lab --yes`" in refused.stderr

    status, shown = typed(project, r"Change 2 resources of lab \(real hosts\)\?", "n", "up", "lab", ahead="y")
    assert status == 1
    assert "gpu-01/hot: create, 11 steps" in shown and shown.endswith("nothing was changed")
    assert project.host.steps == []


def test_up_asks_once_and_not_when_nothing_changes(project):
    obey(project.host)

    status, shown = typed(project, "Change 2 resources of lab", "y", "up", "lab")
    assert status == 0, shown
    assert project.host.steps
    finished = re.search(r"(gpu-01: created, \d+ s.*gpu-01/hot: created, \d+ s)", shown)
    assert finished and "rackwright:storage:Tier" not in shown, shown  # no table of pulumi

    status, shown = typed(project, "Change", "n", "up", "lab")
    assert (status, "Change" in shown) == (0, False)

    overview = json.loads(piped(project, "status", "lab", "--json").stdout)
    assert (overview["last_change"]["kind"], overview["last_change"]["result"]) == ("update", "succeeded")
    # the recorded host has another tier, which this fleet does not declare
    assert overview["hosts"] == {HOST: {"resources": 2, "state": "7 undeclared", "notices": []}}


def test_a_saved_plan_is_applied_exactly(project):
    """
    A step that was not in the plan is refused; the saved steps run without a question.
    """
    obey(project.host)
    plan = project.directory / "plan.json"
    saved = piped(project, "preview", "lab", "--save-plan", "plan.json")
    assert saved.returncode == 1 and "rackwright up lab --plan plan.json" in saved.stderr

    whole = json.loads(plan.read_text())
    steps = whole["resources"]["gpu-01/hot"]["steps"]
    plan.write_text(
        json.dumps({**whole, "resources": {"gpu-01/hot": {**whole["resources"]["gpu-01/hot"], "steps": steps[:-1]}}})
    )
    refused = piped(project, "up", "lab", "--plan", "plan.json")
    assert refused.returncode == 2 and project.host.steps == []
    assert f"the plan has changed since it was saved: {steps[-1]}" in refused.stdout

    plan.write_text(json.dumps(whole))
    applied = piped(project, "up", "lab", "--plan", "plan.json")
    assert applied.returncode == 0, applied.stderr
    assert [step["text"] for step in project.host.steps] == steps


def test_one_host_is_compared_and_changed_alone(project):
    """
    The other host is neither in the plan nor in the state; an unknown host is refused with the names.
    """
    obey(project.host)
    fleet = project.directory / "stacks/fleet.yaml"
    project.rack.switch_off(HOST)
    fleet.write_text(fleet.read_text() + OTHER.format(address=project.host.address))
    refused = piped(project, "up", "lab", "--yes", "--host", "gpu-03")
    assert refused.returncode == 2 and "no host gpu-03" in refused.stderr

    planned = json.loads(piped(project, "preview", "lab", "--host", "gpu-02", "--json").stdout)
    assert [each["name"] for each in planned["resources"]] == ["gpu-02"]

    project.rack.switch_on(HOST)
    done = piped(project, "up", "lab", "--yes", "--host", HOST)
    assert done.returncode == 0, done.stdout + done.stderr
    state = json.loads(project.pulumi("stack", "export", "--stack", "lab").raw)["deployment"]["resources"]
    assert {each["urn"].rpartition("::")[2] for each in state if each["custom"] and "rackwright" in each["type"]} >= {
        HOST,
        "gpu-01/hot",
    }
    assert not any(each["urn"].endswith("::gpu-02") and each["custom"] for each in state)


def without_tier(fleet: str) -> str:
    """Return the text of the *fleet* without its tier; the drives stay."""
    return re.sub(r"    tiers:\n.*\n", "", fleet).replace(", tier: hot", "")


def test_without_consent_no_tier_is_removed(made):
    """
    The engine plans a removal without asking the provider: the preview refuses it, and so does a destruction.
    """
    fleet = made.directory / "stacks/fleet.yaml"
    declared = fleet.read_text()
    assert piped(made, "destroy", "lab").returncode == 2
    refused = piped(made, "destroy", "lab", "--yes")
    assert refused.returncode == 2
    assert "gpu-01/hot: refused" in refused.stdout and "1 refused" in refused.stdout
    status, shown = typed(made, r"Destroy lab|\[y/N\]|to confirm", "y", "destroy", "lab")
    assert status == 2, shown
    assert shown.endswith(
        "nothing was changed: correct what keeps the resources above, and run `rackwright destroy lab` again"
        " `rackwright destroy lab --yes` removes the other resources"
    )

    fleet.write_text(without_tier(declared))
    refused = piped(made, "preview", "lab")
    assert refused.returncode == 2
    assert (
        "gpu-01/hot: refused\n  [tier-holds-data] gpu-01/hot: the removal of hot would erase its data" in refused.stdout
    )
    assert made.host.steps == []


def test_with_consent_the_data_that_a_removal_loses_is_named_first(made):
    """
    The preview names it, and the summary of a destruction names it before the question.
    """
    fleet = made.directory / "stacks/fleet.yaml"
    allowed = fleet.read_text().replace("mount: /srv/hot", "mount: /srv/hot, destroy: allowed")
    fleet.write_text(allowed)
    assert made.pulumi("up", "--yes", "--skip-preview", "--stack", "lab").status == 0

    fleet.write_text(without_tier(allowed))
    planned = piped(made, "preview", "lab", "--save-plan", "plan.json")
    assert planned.returncode == 1, planned.stderr
    assert "\n  destroys gpu-01/hot: everything on it\n" in planned.stdout
    saved = json.loads((made.directory / "plan.json").read_text())
    assert (saved["removed"], "gpu-01/hot" in saved["resources"]) == (["gpu-01/hot"], False)

    fleet.write_text(allowed)
    question = r"Destroy lab \(real hosts\), and remove 1 resource from its hosts\? Type lab to confirm"
    status, shown = typed(made, question, "y", "destroy", "lab", ahead="lab")
    assert status == 2 and "gpu-01/hot: removed" in shown and "destroys" in shown and "nothing was changed" in shown
    assert made.host.steps == []

    made.host.on_step = lambda step: made.host.set_facts(blank()) if "removed from" in step["text"] else None
    status, shown = typed(made, question, "lab", "destroy", "lab")
    assert status == 0, shown
    assert made.host.steps[-1]["text"].startswith("note in the owner file: removed from")
    assert f"{HOST}: stays" in shown and "1 removed from the hosts, 1 unchanged on the hosts" in shown
