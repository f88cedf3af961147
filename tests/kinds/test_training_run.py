"""A run on its hosts: what starts it, what changes it, what forbids that, and what is left when it goes."""

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from rackwright.core import diff as comparison
from rackwright.core.contract import Command, Put, UnknownValue
from rackwright.facts.facts import Facts
from rackwright.kinds.training_run import keys
from rackwright.kinds.training_run.files import files
from rackwright.kinds.training_run.spec import TrackingServer
from rackwright.schema.run import Elastic, Tracking
from tests.support.recorded_hosts import RESOURCES, SECRET, STACK, recorded
from tests.support.specs import changed
from workloads.privacy_settings import Budget, Privacy

LAUNCHER, WORKER = RESOURCES["ember/digits"], RESOURCES["cinder/digits"]
UNIT = "training-digits.service"


def planned(declared, raw, repository=STACK.repository, **changes):
    spec = changed(declared.spec, **changes)
    claims, facts = declared.kind.claims(spec, repository), Facts(raw)
    differences = comparison.diff(claims, declared.kind.observe(claims, facts))
    return declared.kind.plan(spec, differences, facts, repository)


def texts(plan):
    return [step.text for step in plan.steps]


def bare(host):
    """Return facts of *host* before there was a run."""
    raw = recorded(host)
    raw["runs"], raw["owners"] = {}, {}
    raw["users"].pop("run-digits")
    raw["units"] = {name: unit for name, unit in raw["units"].items() if not name.startswith("training-")}
    for table in ("files", "directories"):
        raw[table] = {path: found for path, found in raw[table].items() if "/runs" not in path and UNIT not in path}
    return raw


@pytest.mark.parametrize("declared", [LAUNCHER, WORKER], ids=["launcher", "worker"])
def test_a_new_run_has_everything_before_it_starts(declared):
    steps = texts(planned(declared, bare(declared.spec.host)))

    assert steps[0] == "note in the owner file: creating"
    assert steps[-1] == "note in the owner file: ready"
    assert steps[1] == "create the account run-digits"
    start = steps.index(f"start {declared.spec.unit}")
    assert steps[start - 1] == "check its imports in /opt/workloads, and its data"
    assert max(number for number, text in enumerate(steps) if text.startswith("write")) < start


@pytest.mark.parametrize("declared", [LAUNCHER, WORKER], ids=["launcher", "worker"])
def test_the_launcher_of_a_private_run_gets_a_ledger_unless_one_is_there(declared, tmp_path):
    ledger = tmp_path / "ledger"
    privacy = Privacy(epsilon=1.0, delta=1e-5, data="rows", budget=Budget(epsilon=1.0, delta=1e-5, ledger=str(ledger)))
    steps = planned(declared, bare(declared.spec.host), privacy=privacy).steps
    found = [step for step in steps if str(ledger) in step.text]
    assert len(found) == (declared is LAUNCHER)
    for step in found:
        argv = [each if each != declared.spec.account else "root" for each in step.argv]
        subprocess.run(argv, check=True)
        (ledger / "rows.jsonl").touch()
        ledger.chmod(0o750)
        subprocess.run(argv, check=True)  # it stays as it is
        assert ledger.stat().st_mode & 0o777 == 0o750


def test_root_makes_a_ledger_through_no_link(tmp_path):
    target, place = tmp_path / "target", tmp_path / "teams"
    target.mkdir()
    place.mkdir()
    (place / "warm").symlink_to(target)
    for ledger in (place / "warm/privacy", place / "warm/a/b", place / "gone"):
        (place / "gone").unlink(missing_ok=True)
        (place / "gone").symlink_to(tmp_path / "nowhere")
        budget = Budget(epsilon=1.0, delta=1e-5, ledger=str(ledger))
        privacy = Privacy(epsilon=1.0, delta=1e-5, data="rows", budget=budget)
        steps = planned(LAUNCHER, bare(LAUNCHER.spec.host), privacy=privacy).steps
        [step] = [step for step in steps if str(ledger) in step.text]
        argv = [each if each != LAUNCHER.spec.account else "root" for each in step.argv]
        assert subprocess.run(argv, stderr=subprocess.DEVNULL).returncode != 0
    assert not [*target.iterdir()]
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("folder", ["etc", "opt", "opt/bin"])
def test_what_is_not_declared_beside_the_files_of_a_run_is_removed_while_it_runs(folder):
    """
    The run searches bin before its environment and the system.
    """
    raw, spec = recorded("ember"), LAUNCHER.spec
    folder = folder.replace("etc", spec.etc).replace("opt", spec.opt)
    raw["files"][f"{folder}/python"] = raw["files"][f"{spec.etc}/config.json"]
    steps = texts(planned(LAUNCHER, raw))

    assert steps == [f"remove what is not declared: {folder}/python", "note in the owner file: ready"]


@pytest.mark.parametrize("declared", [LAUNCHER, WORKER], ids=["launcher", "worker"])
def test_network_adapters_may_use_all_memory_of_a_run_on_several_hosts(declared):
    [unit] = [each.content for each in files(declared.spec, STACK.repository) if each.path.endswith(declared.spec.unit)]
    assert "LimitMEMLOCK=infinity" in unit.splitlines()
    alone = changed(LAUNCHER.spec, hosts=(LAUNCHER.spec.launcher_host,))
    [unit] = [each.content for each in files(alone, STACK.repository) if each.path.endswith(alone.unit)]
    assert "LimitMEMLOCK" not in unit


def test_only_the_chief_waits_for_the_first_step():
    wait = "wait until all 2 processes have logged their first step"

    assert wait in texts(planned(LAUNCHER, bare("ember")))
    assert wait not in texts(planned(WORKER, bare("cinder")))


def test_a_run_that_was_stopped_by_hand_differs_and_starts_again():
    raw = recorded("ember")
    raw["units"][UNIT]["active"], raw["runs"]["digits"]["outcome"] = "inactive", "stopped"
    steps = texts(planned(LAUNCHER, raw))

    assert "remove its last outcome (stopped)" in steps
    assert not [text for text in steps if text.startswith(("write", "make"))]


@pytest.mark.parametrize(
    ("declared", "name", "step"),
    [(LAUNCHER, "run.json", "stop digits, which saves first"), (WORKER, "sshd_config", f"restart {WORKER.spec.unit}")],
    ids=["launcher", "worker"],
)
def test_a_run_that_is_older_than_its_files_starts_again(declared, name, step):
    """
    A file that was changed and put back holds, while the unit goes on with what it read.
    """
    raw, path = recorded(declared.spec.host), f"{declared.spec.etc}/{name}"
    raw["changed_files"][path] = raw["loads"][declared.spec.unit]["started_ns"] + 1

    steps = texts(planned(declared, raw))

    assert step in steps
    assert not [text for text in steps if text.startswith("write")]


def test_another_configuration_is_saved_stopped_and_resumed():
    steps = texts(planned(LAUNCHER, recorded("ember"), set={"steps": 30000}))

    order = ["stop digits, which saves first", "write /etc/rackwright/runs/digits/config.json", f"start {UNIT}"]
    assert [text for text in steps if text in order] == order


def test_the_door_stays_open_where_only_the_configuration_is_another():
    """
    Processes hang on it: the launcher ends them in its own time.
    """
    steps = texts(planned(WORKER, recorded("cinder"), set={"steps": 30000}))

    assert steps == ["write /etc/rackwright/runs/digits/config.json", "note in the owner file: ready"]


def test_another_model_is_refused():
    plan = planned(LAUNCHER, recorded("ember"), set={"model": {"channels": 64}})

    assert [refusal.problem for refusal in plan.refusals] == ["the declared model of the run has changed (channels)"]
    assert not plan.steps


class TestAFinishedRun:
    @pytest.fixture
    def raw(self):
        raw = recorded("ember")
        raw["units"][UNIT]["active"], raw["runs"]["digits"]["outcome"] = "inactive", "finished"
        return raw

    def test_is_as_declared(self, raw):
        assert planned(LAUNCHER, raw).steps == ()

    def test_is_not_started_for_other_code(self, raw):
        raw["files"][LAUNCHER.spec.archive]["digest"] = "of yesterday"

        steps = texts(planned(LAUNCHER, raw))

        assert steps == [f"write {LAUNCHER.spec.archive}", "note in the owner file: ready"]

    def test_refuses_another_configuration(self, raw):
        plan = planned(LAUNCHER, raw, set={"steps": 30000})

        assert [refusal.problem for refusal in plan.refusals] == [
            "the run has finished, and its declared configuration has changed"
        ]

    def test_goes_on_where_that_is_declared(self, raw):
        plan = planned(LAUNCHER, raw, set={"steps": 30000}, go_on=True)

        assert f"start {UNIT}" in texts(plan)


def test_nothing_is_written_where_the_tier_is_not_mounted():
    """
    Checkpoints would go to the drive below.
    """
    raw = bare("ember")
    raw["mounts"] = [mount for mount in raw["mounts"] if mount["target"] != "/srv/warm"]
    plan = planned(LAUNCHER, raw)

    assert [refusal.problem for refusal in plan.refusals] == ["nothing is mounted there"]
    assert plan.steps == ()


@pytest.mark.parametrize("declared", [LAUNCHER, WORKER], ids=["launcher", "worker"])
def test_without_its_secret_a_run_has_no_keys_and_no_steps(declared):
    repository = replace(STACK.repository, secrets={})
    claims = declared.kind.claims(declared.spec, repository)
    plan = planned(declared, bare(declared.spec.host), repository)

    assert {
        claim.thing.rpartition("/")[2] for claim in claims if isinstance(claim.want.get("content"), UnknownValue)
    } == ({"key", "known_hosts"} if declared is LAUNCHER else {"authorized_keys", "host_key"})
    assert plan.refusals
    assert plan.steps == ()


@pytest.mark.parametrize("declared", [LAUNCHER, WORKER], ids=["launcher", "worker"])
def test_no_secret_is_on_a_command_line_or_in_a_text(declared):
    plan = planned(declared, bare(declared.spec.host))
    private = keys.private(SECRET, "training", "digits", *([] if declared is LAUNCHER else ["cinder"]))

    assert [step for step in plan.steps if isinstance(step, Put) and step.content == private]
    words = " ".join(word for step in plan.steps if isinstance(step, Command) for word in step.argv)
    steps = " ".join([words, *texts(plan), *plan.texts.values(), repr(plan)])
    assert not [line for line in private.splitlines()[1:-1] if line in steps]


@pytest.mark.parametrize("declared", [LAUNCHER, WORKER], ids=["launcher", "worker"])
def test_what_it_has_learnt_stays(declared):
    plan = declared.kind.removal(declared.spec, Facts(recorded(declared.spec.host)), STACK.repository, True)
    removing = [step.argv for step in plan.steps if isinstance(step, Command) and "rm -rf" in " ".join(step.argv)]

    assert plan.steps[0].argv == ("systemctl", "disable", "--now", declared.spec.unit)
    assert [argv[2].count("rm -rf") for argv in removing] == [1]
    assert '"$out"' not in removing[0][2].partition("rm -rf")[2].splitlines()[0]


def test_a_door_lets_in_the_chief_alone():
    files = {step.path: step.content for step in planned(WORKER, bare("cinder")).steps if isinstance(step, Put)}
    etc = "/etc/rackwright/runs/digits"
    key = keys.public(SECRET, "training", "digits")

    assert files[f"{etc}/authorized_keys"] == f'from="10.141.0.11",restrict {key} run-digits\n'
    assert "AllowUsers run-digits@10.141.0.11\n" in files[f"{etc}/sshd_config"]
    assert "ListenAddress 10.141.0.12\n" in files[f"{etc}/sshd_config"]


def test_ssh_reads_the_key(tmp_path: Path):
    """
    The public half that ssh-keygen finds in the private one is the one that hosts get.
    """
    path = tmp_path / "key"
    path.write_text(keys.private("a secret", "one", "two"))
    path.chmod(0o600)

    found = subprocess.run(["ssh-keygen", "-y", "-f", str(path)], capture_output=True, text=True, check=True).stdout

    assert found.strip() == keys.public("a secret", "one", "two")


def test_each_purpose_has_a_key_of_its_own():
    words = [("a secret", "one", "two"), ("a secret", "onetwo"), ("a secret", "one"), ("another", "one", "two")]

    assert len({keys.public(*each) for each in words}) == len(words)


class TestATrackedRun:
    PASSWORD = "tina's own"

    @pytest.fixture
    def steps(self):
        return {
            "tracking": Tracking(host="ash", account="tina", register="digits"),
            "tracking_server": TrackingServer(url="https://10.41.0.14:5000", secret="mlflow_tina"),
        }

    @pytest.fixture
    def repository(self):
        return replace(STACK.repository, secrets={"training_key": SECRET, "mlflow_tina": self.PASSWORD})

    def test_has_the_account_on_its_chief_and_trusts_the_server_there(self, steps, repository):
        plan = planned(LAUNCHER, bare("ember"), repository, **steps)
        files = {step.path: step for step in plan.steps if isinstance(step, Put)}
        run = json.loads(files["/etc/rackwright/runs/digits/run.json"].content)

        account = files["/etc/rackwright/runs/digits/tracking"]
        assert account.content.splitlines() == [
            "[mlflow]",
            "mlflow_tracking_username = tina",
            f"mlflow_tracking_password = {self.PASSWORD}",
        ]
        assert (account.mode, account.owner) == (0o640, "root:run-digits")
        assert run["tracking"] == {
            "url": "https://10.41.0.14:5000",
            "credentials": "/etc/rackwright/runs/digits/tracking",
            "certificate": "/etc/rackwright/mlflow/tls.crt",
            "register": "digits",
        }
        words = " ".join(word for step in plan.steps if isinstance(step, Command) for word in step.argv)
        assert self.PASSWORD not in " ".join([words, *texts(plan), *plan.texts.values(), repr(plan)])

    def test_brings_the_certificate_of_a_server_elsewhere(self, steps, repository):
        steps["tracking_server"] = steps["tracking_server"].model_copy(update={"certificate": "as PEM"})
        plan = planned(LAUNCHER, bare("ember"), repository, **steps)
        files = {step.path: step.content for step in plan.steps if isinstance(step, Put)}

        assert files["/etc/rackwright/runs/digits/tracking.crt"] == "as PEM"
        trusted = json.loads(files["/etc/rackwright/runs/digits/run.json"])["tracking"]["certificate"]
        assert trusted == "/etc/rackwright/runs/digits/tracking.crt"

    def test_is_not_begun_without_the_password(self, steps):
        plan = planned(LAUNCHER, bare("ember"), **steps)

        reason = "it depends on the secret mlflow_tina, which is not known here"
        assert [refusal.problem for refusal in plan.refusals] == [f"a secret is unknown: {reason}"]
        assert plan.steps == ()

    def test_says_where_it_is_seen(self, steps):
        spec, raw = changed(LAUNCHER.spec, **steps), recorded("ember")
        raw["runs"]["digits"]["tracked"] = {"url": steps["tracking_server"].url, "experiment": "1", "run": "ab"}

        assert (
            LAUNCHER.kind.report(spec, Facts(raw))["tracking"]
            == f"{steps['tracking_server'].url}/#/experiments/1/runs/ab"
        )


def test_the_report_says_how_far_it_is():
    report = LAUNCHER.kind.report(LAUNCHER.spec, Facts(recorded("ember")))

    assert report["outcome"] == "running"
    assert report["steps"] == 20000
    assert report["step"] >= 1
    assert report["eta_seconds"] > 0
    assert [*report["ranks"]] == ["metrics.jsonl"]


def test_the_report_of_a_run_without_a_number_for_its_loss_has_no_loss():
    raw = recorded("ember")
    del raw["runs"]["digits"]["ranks"]["metrics.jsonl"]["loss"]
    report = LAUNCHER.kind.report(LAUNCHER.spec, Facts(raw))

    assert report["step"] >= 1
    assert "loss" not in report


@pytest.mark.parametrize(
    ("kept", "made", "listed"),
    [(0, 255, 2), (255, 0, 2), (255, 255, 1)],
    ids=["a connection is there", "one is made", "none can be made"],
)
def test_an_elastic_run_lists_the_hosts_that_are_not_cut_off(kept, made, listed, tmp_path):
    spec = changed(LAUNCHER.spec, elastic=Elastic())
    [script] = [file.content for file in files(spec, STACK.repository) if file.path.endswith("bin/discover")]
    ssh = tmp_path / "ssh"
    ssh.write_text(f'#!/bin/sh\ncase "$*" in *"-O check"*) exit {kept};; *-fN*) exit {made};; esac\n')
    ssh.chmod(0o755)
    done = subprocess.run(["sh", "-c", script], env={"PATH": f"{tmp_path}:/bin"}, capture_output=True, text=True)

    assert done.returncode == 0
    assert done.stdout.split() == [f"{worker.address}:1" for worker in spec.hosts][:listed]


def test_a_run_that_cannot_be_read_is_left_to_a_person_and_can_still_be_removed():
    raw = recorded("ember")
    raw["runs"]["digits"] = {"unknown": "digits: no answer within 20 s"}
    plan = planned(LAUNCHER, raw)

    assert (plan.steps, plan.refusals) == ((), ())
    assert [item.path for item in plan.by_hand] == ["run:digits.outcome", "run:digits.checkpoints"]
    removed = LAUNCHER.kind.removal(LAUNCHER.spec, Facts(raw), STACK.repository, True)
    assert removed == LAUNCHER.kind.removal(LAUNCHER.spec, Facts(recorded("ember")), STACK.repository, True)
    assert removed.steps and not removed.refusals


TABLE = "rackwright_run_digits"


@pytest.mark.parametrize("declared", [LAUNCHER, WORKER], ids=["launcher", "worker"])
def test_a_deleted_table_of_a_run_with_processes_is_loaded_again_without_a_restart(declared):
    raw = recorded(declared.spec.host)
    raw["nftables"] = {}
    raw["units"][declared.spec.unit]["active"] = "active"
    steps = texts(planned(declared, raw))

    assert f"load the table {TABLE}, which closes the ports of its processes to others" in steps
    assert not [text for text in steps if text.startswith(("start ", "stop ", "restart "))]


def test_a_run_without_processes_needs_no_table():
    raw = recorded("ember")
    raw["nftables"] = {}
    raw["units"][UNIT]["active"], raw["runs"]["digits"]["outcome"] = "inactive", "finished"
    claims = LAUNCHER.kind.claims(LAUNCHER.spec, STACK.repository)
    found = comparison.diff(claims, LAUNCHER.kind.observe(claims, Facts(raw)))
    assert not [item for item in found if item.thing == f"nftables:{TABLE}"]


def test_a_run_on_a_host_without_nftables_is_refused():
    raw = bare("ember")
    raw["packages"] = {name: each for name, each in raw["packages"].items() if name != "nftables"}
    raw["nftables"] = {"unknown": "nft is not installed"}
    plan = planned(LAUNCHER, raw)
    assert [each.problem for each in plan.refusals] == ["the host has no nftables"]


def test_a_run_on_one_host_is_closed_to_all_others():
    [own] = [each for each in LAUNCHER.spec.hosts if each.name == LAUNCHER.spec.host]
    alone = LAUNCHER.spec.model_copy(update={"hosts": (own.model_copy(update={"address": "localhost"}),)})
    assert alone.firewall.addresses == ()
    assert LAUNCHER.spec.firewall.addresses == tuple(each.address for each in LAUNCHER.spec.hosts)
