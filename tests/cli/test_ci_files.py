"""The CI files of `rackwright init`: secrets, packages, and the steps of the jobs, run in order for each stack."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from rackwright.cli.ci_files import CI_TEXTS, ProjectStack, ci_files, project_stacks
from rackwright.cli.init import DEPLOYMENTS, STACKS, Example, project_files
from rackwright.cli.packages import Packages
from tests.support.ci_steps import PATHS, commands
from tests.support.wheel_directory import OTHER, OURS, WHEEL

PACKAGES = Packages(OTHER + OURS, WHEEL, b"a wheel")
LAB = [ProjectStack("lab")]
HOSPITAL = [ProjectStack("hospital", monitored=True), ProjectStack("hospital-models", uses_hosts=True, monitored=True)]
CHANGING = {"PULUMI_CONFIG_PASSPHRASE", "PULUMI_BACKEND_URL", "SSH_KEY"}
"""Secrets by which a job can change hosts."""


ENVIRONMENTS = {
    ".github/workflows/rackwright.yaml": {
        "preview": "rack-preview",
        "up": "rack",
        "audit": "${{ github.event_name == 'schedule' && 'rack' || 'rack-preview' }}",
    },
    ".gitlab-ci.yml": {"preview": "rack-preview", "audit-review": "rack-preview", "up": "rack", "audit": "rack"},
}
"""Protected environments of jobs; those of a pull or merge request wait for a person."""


def jobs(path: str) -> dict[str, dict[str, Any]]:
    """Return the jobs of the CI file *path*, by name."""
    data = yaml.safe_load(str(ci_files(PACKAGES, LAB, "https://packages.example/simple")[path]))
    return data.get("jobs") or {
        name: job for name, job in data.items() if isinstance(job, dict) and "script" in job and name[0] != "."
    }


@pytest.mark.parametrize("path", CI_TEXTS)
def test_ci_installs_hashed_packages_and_actions_by_digest(path: str) -> None:
    text = str(ci_files(PACKAGES, LAB, "https://packages.example/simple")[path])

    installs = re.findall(r"pip install .*", text)
    assert installs and all(
        "--require-hashes --only-binary :all: --index-url https://packages.example/simple --find-links packages "
        in each
        for each in installs
    )
    references = re.findall(r"(?:uses|image|container): *(\S+)", text)
    assert references and all(re.search(r"@(sha256:)?[0-9a-f]{40}", each) for each in references)
    assert not re.search("STACK_NAME|COMMAND|_ACTION|_IMAGE", text)


@pytest.mark.parametrize("path", CI_TEXTS)
def test_each_job_installs_with_the_python_of_the_lists(path: str) -> None:
    """`python3` of a runner is any version, for which the lists may lack packages."""
    text = str(ci_files(PACKAGES, LAB)[path])

    assert set(re.findall(r"\bpython[0-9.]*(?= -m venv)", text)) == {"python3.11"}
    images = [job.get("container") or job.get("image") for name, job in jobs(path).items() if name == "check"]
    assert [str(each).partition("-")[0] for each in images] == ["python:3.11"]


@pytest.mark.parametrize("path", CI_TEXTS)
def test_only_approved_code_gets_a_secret(path: str) -> None:
    """All jobs with a secret, also the salt, are those of a protected environment."""
    for name, job in jobs(path).items():
        words = set(re.findall(r"\w+", str(job)))
        assert bool(words & CHANGING) == (name in ("preview", "up", "audit")), name
        assert bool({"SSH_KEY", "PROBE_SSH_KEY", "SALT"} & words) == (name != "check")
        assert job.get("environment") == ENVIRONMENTS[path].get(name), name


def test_only_the_default_branch_gets_the_secrets_of_the_rack_from_gitlab() -> None:
    """Any branch may have a schedule; GitHub itself starts schedules on the default branch alone."""
    [path] = [each for each in CI_TEXTS if "gitlab" in each]
    rules = [rule["if"] for job in jobs(path).values() if job.get("environment") == "rack" for rule in job["rules"]]

    assert len(rules) == 2
    assert all(rule.endswith("$CI_COMMIT_BRANCH == $CI_DEFAULT_BRANCH") for rule in rules)


def test_no_output_of_rackwright_commands_the_runner_of_github() -> None:
    """Texts of pulumi, and those in a file that a step prints, come by another way than those of rackwright."""
    [path] = [each for each in CI_TEXTS if "github" in each]
    steps = [step.get("run", "") for job in jobs(path).values() for step in job["steps"]]

    running = [step for step in steps if "rackwright" in step and "pip install" not in step]
    assert len(running) == len(jobs(path)) + 1 == 5
    for step in running:
        first, *_ = step.splitlines()
        printed = [subprocess.check_output(["sh", "-c", first], text=True) for _ in range(2)]
        assert all(re.fullmatch(r"::stop-commands::[0-9a-f-]{36}\n", each) for each in printed)
        assert printed[0] != printed[1]


@pytest.mark.parametrize("path", CI_TEXTS)
def test_each_job_with_an_agent_ends_it(path: str) -> None:
    for name, job in jobs(path).items():
        steps = job.get("steps") or job["script"]
        text = "\n".join(step.get("run", "") if isinstance(step, dict) else str(step) for step in steps)
        assert text.count("trap 'ssh-agent -k") == text.count('eval "$(ssh-agent)"'), name
        assert ('eval "$(ssh-agent)"' in text) == (name != "check"), name
        if name != "check":
            assert text.index("trap 'ssh-agent -k") < text.index('eval "$(ssh-agent)"'), name


def test_the_key_of_changes_delivers_audits_of_the_default_branch_alone() -> None:
    """The audit itself has the key of the probe; in a pull request, nothing is delivered."""
    [path] = [each for each in CI_TEXTS if "github" in each]
    steps = [step for step in jobs(path)["audit"]["steps"] if "SSH_KEY" in step.get("env", {})]

    [deliver] = steps
    assert "github.event_name == 'schedule'" in deliver["if"] and "PROBE_SSH_KEY" not in str(deliver)
    assert deliver["env"]["SSH_KEY"].startswith("${{ github.event_name == 'schedule' && secrets.SSH_KEY")
    assert not {"PULUMI_CONFIG_PASSPHRASE", "PULUMI_BACKEND_URL"} & {*re.findall(r"\w+", str(jobs(path)["audit"]))}


def write(files: dict[str, str | bytes], directory: Path) -> None:
    for path, content in files.items():
        (directory / path).parent.mkdir(parents=True, exist_ok=True)
        (directory / path).write_bytes(content if isinstance(content, bytes) else content.encode())


@pytest.mark.parametrize("example", DEPLOYMENTS)
def test_ci_works_on_each_stack_of_a_deployment_that_has_hosts_first(example: Example, tmp_path: Path) -> None:
    write(project_files("demo", example, python=False), tmp_path)

    found = project_stacks(tmp_path)

    assert [(stack.name, stack.uses_hosts, stack.monitored) for stack in found] == [
        (STACKS[example][0], False, True),
        (STACKS[example][1], True, True),
    ]


def test_ci_works_on_the_stacks_of_racks_alone_if_there_is_one(tmp_path: Path) -> None:
    write(project_files("demo", Example.rack, python=True), tmp_path)
    assert project_stacks(tmp_path) == [ProjectStack("lab", "twin:lab")]
    fleet = """\
monitoring: {host: a, audits: {rack: 26, models: 26, other: 26}}
hosts: {a: {roles: {scheduled_audit: {stacks: [models]}}}}
"""
    stacks = {
        name: f"config: {{rackwright:fleet: {name}.yaml, rackwright:target: rack}}\n" for name in ("models", "rack")
    }
    write({f"stacks/Pulumi.{name}.yaml": text for name, text in stacks.items()}, tmp_path)
    write({"stacks/rack.yaml": fleet, "stacks/models.yaml": "uses: rack.yaml\n"}, tmp_path)
    write({"stacks/Pulumi.$(id).yaml": stacks["rack"], "stacks/Pulumi.theirs.yaml": "config: {a: b}\n"}, tmp_path)

    # role scheduled_audit has the metrics of `models`, and `theirs` has no fleet
    assert project_stacks(tmp_path) == [
        ProjectStack("rack", "rack", monitored=True),
        ProjectStack("models", "rack", uses_hosts=True),
    ]


# notes its calls, and ends with $STATUS for an audit or a preview of `hospital`
STAND_IN = """\
#!/bin/sh
echo "$*" >>"$CALLS"
for word; do
    case $last in --metrics) echo "metrics" >"$word" ;; esac
    last=$word
done
case $1 in audit | preview) [ "$2" != hospital ] || exit "$STATUS" ;; esac
"""
AUDIT = "audit {0} --digests stacks/{0}.digests.json"
ON_EACH = {
    "check": ["check {0}"],
    "preview": ["preview {0}"],
    "up": ["up --yes {0}"],
    "audit": [f"{AUDIT} --metrics {{0}}.prom", "alert deliver {0} {0}.prom"],
}
"""Calls of rackwright in each job, for each stack."""


@pytest.fixture
def job(tmp_path: Path) -> Path:
    """Return the checkout of a job, with programs that stand for rackwright and those of a code host."""
    code_host = tmp_path / "code-host"
    write({".venv/bin/rackwright": STAND_IN, ".rackwright/salts/hospital": "salt"}, tmp_path)
    write(
        {f"code-host/{name}": "#!/bin/sh\n" for name in ("gh", "curl", "ssh-agent", "ssh-add", "python3.11")}, tmp_path
    )
    write({".venv/bin/pip": "#!/bin/sh\n", "key": "a key"}, tmp_path)
    for path in (*code_host.iterdir(), *(tmp_path / ".venv/bin").iterdir()):
        path.chmod(0o755)
    return tmp_path


def run(job: Path, service: str, name: str, status: int = 0) -> tuple[list[int], list[str]]:
    """Return the exit statuses of the steps of job *name*, and the calls of rackwright in it."""
    data = yaml.safe_load(str(ci_files(PACKAGES, HOSPITAL)[PATHS[service]]))
    calls = job / "calls"
    calls.write_text("")
    environment = {"PATH": "/usr/bin:/bin", "CALLS": str(calls), "STATUS": str(status)}
    steps = commands(service, data, name, str(job), "", f"{job}/code-host", f"{job}/key")
    ended = [subprocess.run(["sh", "-c", step], cwd=job, env=environment, capture_output=True) for step in steps]
    return [each.returncode for each in ended], calls.read_text().splitlines()


@pytest.mark.parametrize("service", PATHS)
@pytest.mark.parametrize("name", ON_EACH)
def test_the_steps_of_each_job_run_in_order_for_each_stack(job: Path, service: str, name: str) -> None:
    statuses, calls = run(job, service, name)

    assert not any(statuses)
    assert calls == [text.format(stack.name) for text in ON_EACH[name] for stack in HOSPITAL]


@pytest.mark.parametrize("service", PATHS)
def test_an_audit_that_differs_fails_and_is_delivered(job: Path, service: str) -> None:
    statuses, calls = run(job, service, "audit", status=1)

    assert any(statuses)
    assert calls == [text.format(stack.name) for text in ON_EACH["audit"] for stack in HOSPITAL]


@pytest.mark.parametrize("service", PATHS)
@pytest.mark.parametrize(("status", "ends_well"), [(1, True), (3, False)])
def test_a_preview_shows_all_stacks_and_fails_if_one_could_not_be_compared(
    job: Path, service: str, status: int, ends_well: bool
) -> None:
    statuses, calls = run(job, service, "preview", status)

    assert (not any(statuses)) == ends_well
    assert calls == ["preview hospital", "preview hospital-models"]
    assert (job / "plan.txt").read_text() == "hospital\nhospital-models\n"
