"""The first commands of a new user, with the real pulumi: init, plain pulumi, secrets, and a twin that is off."""

from pathlib import Path

import pexpect
import pytest

from tests.support.pasted import paste as shell

ROOT = Path(__file__).parents[2]
PROGRAM = str(ROOT / ".venv/bin/rackwright")
VALUE = "a-long-and-secret-value"
pytestmark = pytest.mark.pulumi


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("front") / "rack"
    made = shell(folder.parent, "rackwright init rack")
    assert made.returncode == 0, made.stderr
    assert "created stack lab\n" in made.stdout
    return folder


def test_plain_pulumi_works_after_init(project: Path) -> None:
    done = shell(project, 'eval "$(rackwright env)" && pulumi config set --stack lab team:name red && pulumi stack ls')
    assert done.returncode == 0 and "lab" in done.stdout, done.stderr
    assert "team:name: red" in (project / "stacks/Pulumi.lab.yaml").read_text()


def test_env_creates_a_stack_of_new_settings_and_leaves_a_racks_without_a_passphrase(project: Path) -> None:
    (project / "stacks/Pulumi.second.yaml").write_text(
        "config: {rackwright:fleet: rack.yaml, rackwright:target: twin:b}\n"
    )
    (project / "stacks/Pulumi.prod.yaml").write_text("config: {rackwright:fleet: rack.yaml, rackwright:target: rack}\n")
    done = shell(project, "rackwright env")
    assert done.returncode == 0 and "stack second: created" in done.stderr
    assert "note: stack prod is not created: " in done.stderr
    (project / "stacks/Pulumi.second.yaml").unlink()
    (project / "stacks/Pulumi.prod.yaml").unlink()


def test_env_keeps_and_names_a_backend_of_the_user(project: Path) -> None:
    done = shell(project, "rackwright env", PULUMI_BACKEND_URL="s3://states-of-mine")
    assert done.returncode == 0
    assert "note: PULUMI_BACKEND_URL stays as you have set it: s3://states-of-mine" in done.stderr
    assert "PULUMI_BACKEND_URL" not in done.stdout


def test_a_secret_is_set_from_stdin_and_never_shown(project: Path) -> None:
    done = shell(project, "rackwright secret set lab ntp_key", f"{VALUE}\n")
    assert done.returncode == 0, done.stderr
    text = (project / "stacks/Pulumi.lab.yaml").read_text()
    assert "ntp_key:" in text and "secure:" in text and VALUE not in text + done.stdout + done.stderr
    read = 'eval "$(rackwright env)" && pulumi config get --stack lab --path rackwright:secrets.ntp_key'
    assert shell(project, read).stdout == f"{VALUE}\n"


@pytest.mark.parametrize(
    ("arguments", "stdin", "text"),
    [
        ("lab NTP-Key", VALUE, "Write {secret: ntp_key}"),
        ("lab ntp_key", "short", "the value has 5 characters"),
        ("labb ntp_key", VALUE, "stacks here: lab"),
    ],
)
def test_a_wrong_secret_is_refused(project: Path, arguments: str, stdin: str, text: str) -> None:
    done = shell(project, f"rackwright secret set {arguments}", stdin)
    assert (done.returncode, text in done.stderr) == (2, True), done.stderr
    assert "nothing was done" in done.stderr


FLEET = """\
fleet: example
hosts:
  alpha:
    address: 192.0.2.1
    identity: {serial: S-ALPHA}
    os: debian-12
    roles:
      base: {ntp_servers: [time-1], ntp_keys: [{id: 1, type: SHA256, key: {secret: ntp_key}, servers: [time-1]}]}
      mlflow: {admin: {name: admin, password: {secret: mlflow_admin}}, artifacts: /srv/warm/mlflow}
monitoring:
  host: alpha
  receivers: {operators: {url: {secret: alerts_url}}}
"""


def test_missing_secrets_get_random_values_and_those_of_a_person_are_named(project: Path) -> None:
    (project / "stacks/real.yaml").write_text(FLEET)
    settings = project / "stacks/Pulumi.real.yaml"
    settings.write_text("config: {rackwright:fleet: real.yaml, rackwright:target: rack}\n")

    done = shell(project, "rackwright secret generate real", PULUMI_CONFIG_PASSPHRASE="a passphrase of this rack")

    assert done.returncode == 1, done.stderr
    assert "mlflow_admin is set" in done.stderr and "monitoring_key is set" in done.stderr
    assert "ntp_key is left: Run `rackwright secret set real ntp_key` with " in done.stderr
    assert "alerts_url is left: Run `rackwright secret set real alerts_url` with " in done.stderr
    read = 'eval "$(rackwright env)" && pulumi config get --stack real --path rackwright:secrets.mlflow_admin'
    value = shell(project, read, PULUMI_CONFIG_PASSPHRASE="a passphrase of this rack").stdout.strip()
    assert len(value) == 64 and value not in done.stdout + done.stderr + settings.read_text()
    first = settings.read_text()
    again = shell(project, "rackwright secret generate real", PULUMI_CONFIG_PASSPHRASE="a passphrase of this rack")
    assert again.returncode == 1 and "is set" not in again.stderr and settings.read_text() == first
    settings.unlink()


def test_a_secret_is_typed_twice_without_an_echo(project: Path) -> None:
    child = pexpect.spawn(PROGRAM, ["secret", "set", "lab", "typed"], cwd=str(project), timeout=120, encoding="utf-8")
    child.expect("Value of typed: ")
    child.sendline(VALUE)
    child.expect("Repeat for confirmation: ")
    child.sendline(VALUE)
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0 and VALUE not in child.before


@pytest.mark.parametrize("command", ["preview lab", "up lab --yes"])
def test_a_twin_that_is_off_is_named_once_with_the_command(project: Path, command: str) -> None:
    done = shell(project, f"rackwright {command}")
    assert done.returncode == 3, done.stderr
    assert done.stderr.count("the twin is off") == 1 and "gpu-01" not in done.stdout + done.stderr
    assert "Run `rackwright twin start lab`" in done.stderr
