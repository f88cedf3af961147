"""A run on several hosts: what the launcher starts, how the run ends, and how a failed host is reported."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.mlflow_stub import Stub
from workloads.errors import UserError
from workloads.training import hosts
from workloads.training.hosts import LaunchedProcesses, LaunchHost, LaunchPlan, training_processes
from workloads.training.plan import process_environment


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings of other tests, which are this account's as well, are left alone."""
    monkeypatch.setattr(hosts, "training_processes", lambda: iter(()))


@pytest.fixture
def plan(tmp_path: Path) -> LaunchPlan:
    config, home, out = tmp_path / "config.json", tmp_path / "home", tmp_path / "out"
    home.mkdir()
    out.mkdir()
    config.write_text("{}")
    content = {
        "name": "digits", "host": "ember", "processes": 2, "launcher": "horovod", "min_processes": None,
        "hosts": [{"name": "ember", "address": "192.0.2.1"}, {"name": "cinder", "address": "192.0.2.2"}],
        "interface": "fabric0", "rendezvous_port": 29411,
        "variables": {"NCCL_IB_HCA": "=mlx5_0", "NCCL_DEBUG": "two words"},
        "config": str(config), "out": str(out), "home": str(home), "log": str(tmp_path / "log"),
        "grace_seconds": 5, "data": None, "provenance": {},
    }  # fmt: skip
    path = tmp_path / "run.json"
    path.write_text(json.dumps(content))
    return LaunchPlan.read(path)


def test_horovod_gets_hosts_and_their_one_interface(plan: LaunchPlan) -> None:
    [argv] = hosts.commands(plan, plan.hosts, "python")

    assert argv[:3] == ["python", "-m", "horovod.runner.launch"]
    assert argv[argv.index("-H") + 1] == "192.0.2.1:2,192.0.2.2:2"
    assert argv[argv.index("-np") + 1] == "4"
    assert argv[argv.index("--network-interfaces") + 1] == "fabric0"
    assert argv[-5:] == ["-m", "workloads.training", str(plan.config), "--out", str(plan.out)]


def test_an_elastic_run_asks_who_is_there(plan: LaunchPlan) -> None:
    [argv] = hosts.commands(replace(plan, min_processes=2), plan.hosts[:1], "python")

    assert "-H" not in argv
    assert argv[argv.index("--host-discovery-script") + 1] == "discover"
    assert (argv[argv.index("--min-np") + 1], argv[argv.index("--max-np") + 1]) == ("2", "4")


def test_torchrun_is_started_on_each_host(plan: LaunchPlan) -> None:
    here, there = hosts.commands(replace(plan, launcher="torchrun"), plan.hosts, "python")

    assert here[:3] == ["python", "-m", "torch.distributed.run"]
    assert here[here.index("--node-rank") + 1] == "0"
    assert there[:2] == ["ssh", "192.0.2.2"]
    assert "--node-rank 1" in there[2]
    assert "GLOO_SOCKET_IFNAME=fabric0" in there[2]
    assert "NCCL_SOCKET_IFNAME==fabric0" in there[2]
    assert here[here.index("--master-port") + 1] == "29411"
    assert "--master-port 29411" in there[2]


def test_torchrun_of_a_single_host_chooses_a_free_port(plan: LaunchPlan) -> None:
    [argv] = hosts.commands(
        replace(plan, launcher="torchrun", hosts=plan.hosts[:1], rendezvous_port=None), plan.hosts[:1], "python"
    )

    assert argv[3:7] == ["--standalone", "--nproc-per-node", "2", "-m"]
    assert "--master-port" not in argv


@pytest.mark.parametrize("launcher", ["torchrun", "horovod"])
def test_the_processes_have_the_declared_variables(plan: LaunchPlan, launcher: str) -> None:
    plan = replace(plan, launcher=launcher)
    program = "import os; print(os.environ['NCCL_IB_HCA'], os.environ['NCCL_DEBUG'], os.environ['NCCL_SOCKET_IFNAME'])"
    [*_, there] = hosts.ssh_command(plan.hosts[1], process_environment(plan), [sys.executable, "-c", program])

    assert subprocess.check_output(["sh", "-c", there], text=True) == "=mlx5_0 two words =fabric0\n"


def test_a_process_of_the_launcher_host_has_them_too(plan: LaunchPlan, capfd: pytest.CaptureFixture[str]) -> None:
    assert ended(plan, "import os; print(os.environ['NCCL_IB_HCA'])").outcome == "finished"
    assert capfd.readouterr().out == "=mlx5_0\n"


def test_words_stay_words_on_the_way(plan: LaunchPlan) -> None:
    [*_, report] = hosts.ssh_command(LaunchHost("cinder", "192.0.2.2"), {}, ["echo", "two  words", "$HOME"])

    assert subprocess.check_output(["sh", "-c", report], text=True) == "two  words $HOME\n"


def test_nothing_is_started_where_what_it_imports_is_not_there(
    plan: LaunchPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hosts, "find_spec", lambda module: None if module == "horovod" else object())

    with pytest.raises(UserError, match=r"^ember: environment: .* has no horovod; .*torchrun\.$"):
        hosts.check_host(plan)
    hosts.check_host(replace(plan, launcher="torchrun"))


def test_data_that_one_host_lacks_is_reported_with_its_name(plan: LaunchPlan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosts, "find_spec", lambda module: object())

    with pytest.raises(UserError, match=r"^ember: data: /srv/none does not exist; every host of the run reads it\."):
        hosts.check_host(replace(plan, data="/srv/none"))


def ended(plan: LaunchPlan, *programs: str) -> hosts.LaunchResult:
    return LaunchedProcesses(plan, [[sys.executable, "-c", program] for program in programs]).wait()


def test_a_run_that_ends_well_is_finished(plan: LaunchPlan) -> None:
    assert ended(plan, "print(1)") == hosts.LaunchResult("finished", 0)


def test_who_failed_first_is_reported(plan: LaunchPlan) -> None:
    printed = "print('Process 1 exit with status code 137.'); print('Process 0 exit with status code 1.'); exit(1)"

    assert ended(plan, printed) == hosts.LaunchResult("failed", 1, "rank 1 ended with 137")


def test_what_is_refused_is_not_tried_again(plan: LaunchPlan) -> None:
    assert ended(plan, "print('Process 0 exit with status code 2.'); exit(1)").status == 2


def test_where_one_launcher_fails_the_others_end(plan: LaunchPlan) -> None:
    assert ended(plan, "exit(1)", "import time; time.sleep(600)").outcome == "failed"


def test_a_run_that_is_asked_to_stop_is_stopped_however_it_ends(plan: LaunchPlan) -> None:
    launched = LaunchedProcesses(
        replace(plan, grace_seconds=0), [[sys.executable, "-c", "import time; time.sleep(600)"]]
    )
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM)).start()

    assert launched.wait() == hosts.LaunchResult("stopped", 0)


def step(path: Path, **values: float) -> None:
    with path.open("a") as file:
        file.write(json.dumps(values) + "\n")


def test_a_rank_counts_when_it_has_logged_a_step_of_this_start(plan: LaunchPlan) -> None:
    step(plan.out / "metrics.jsonl", step=7)
    began = plan.home / "started"
    began.touch()
    later = time.time() + 5

    assert [*hosts.files_with_steps(plan)] == []
    with (plan.out / "metrics.jsonl").open("a") as file:
        file.write('{"event": "start"}\n')
    os.utime(plan.out / "metrics.jsonl", (later, later))
    assert [*hosts.files_with_steps(plan)] == []
    step(plan.out / "metrics.jsonl", step=8)
    os.utime(plan.out / "metrics.jsonl", (later, later))
    assert [*hosts.files_with_steps(plan)] == ["metrics.jsonl"]


def test_the_wait_ends_when_every_rank_has_logged(plan: LaunchPlan, monkeypatch: pytest.MonkeyPatch) -> None:
    hosts.save_state(plan, attempt=1, outcome=None)
    monkeypatch.setattr(hosts, "files_with_steps", lambda plan: iter(["metrics.jsonl", "metrics-1.jsonl"]))
    monkeypatch.setattr(hosts, "run_on_host", lambda plan, host, verb: "metrics-2.jsonl\nmetrics-3.jsonl\n")

    assert hosts.await_first_step(plan, 60) == 0


def test_the_wait_reports_the_last_lines_of_the_rank_that_failed(
    plan: LaunchPlan, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log = ["[1]<stderr>:of an earlier start", "start 2 of digits", "[0]<stdout>:fine", "[1]<stderr>:no memory"]
    plan.log.write_text("\n".join([*log, "Process 1 exit with status code 1."]))
    hosts.save_state(plan, attempt=2, outcome=None)

    def fails(plan: LaunchPlan) -> list[str]:
        hosts.save_state(plan, attempt=2, outcome="failed", why="rank 1 ended with 1")
        return []

    monkeypatch.setattr(hosts, "files_with_steps", fails)

    assert hosts.await_first_step(plan, 60) == 4
    assert capsys.readouterr().out == "[1]<stderr>:no memory\ndigits failed: rank 1 ended with 1\n"


def test_a_long_log_is_emptied_through_its_descriptor_and_kept_by_the_account(
    plan: LaunchPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The log's directory is root's: the account can neither rename the log nor open it for writing.
    """
    monkeypatch.setattr(hosts, "LOG_BYTES", 10)
    with plan.log.open("ab", buffering=0) as opened:
        opened.write(b"short\n")
        hosts.rotate_log(plan, opened.fileno())
        assert plan.log.read_bytes() == b"short\n"

        opened.write(b"and a long line\n")
        plan.log.chmod(0o440)
        hosts.rotate_log(plan, opened.fileno())
        opened.write(b"after\n")

    assert plan.log.read_bytes() == b"after\n"
    assert (plan.home / "log.1").read_bytes() == b"short\nand a long line\n"


def test_a_log_that_cannot_be_kept_goes_on_and_another_file_is_left_alone(
    plan: LaunchPlan, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(hosts, "LOG_BYTES", 10)
    plan.log.write_bytes(b"a log of the run\n")
    other = tmp_path / "other"
    with other.open("ab", buffering=0) as opened:
        opened.write(b"an output of my own\n")
        hosts.rotate_log(plan, opened.fileno())
    (plan.home / "log.1").mkdir()
    with plan.log.open("ab", buffering=0) as opened:
        hosts.rotate_log(plan, opened.fileno())

    assert other.read_bytes() == b"an output of my own\n"
    assert plan.log.read_bytes() == b"a log of the run\n"


def test_a_log_is_shortened_while_the_run_goes_on(plan: LaunchPlan, monkeypatch: pytest.MonkeyPatch) -> None:
    shortened: list[LaunchPlan] = []
    monkeypatch.setattr(hosts, "rotate_log", shortened.append)

    assert ended(plan, "print(1); print(2)").outcome == "finished"

    assert shortened == [plan, plan]


def test_a_finished_run_is_not_started_again(plan: LaunchPlan, capsys: pytest.CaptureFixture[str]) -> None:
    hosts.save_state(plan, attempt=1, outcome="finished")

    assert hosts.start(plan) == 0
    assert capsys.readouterr().out == "the run has already finished\n"


def test_the_launcher_reports_a_run_and_sends_missing_records_at_the_next_start(plan: LaunchPlan) -> None:
    """
    The account is in a file, the server on loopback; that the run is over already holds nothing back.
    """
    account = plan.config.with_name("tracking")
    account.write_text("[mlflow]\nmlflow_tracking_username = tina\nmlflow_tracking_password = 12345678\n")
    account.chmod(0o600)
    line = {"step": 1, "loss": 0.5, "time": 1.0}
    (plan.out / "metrics.jsonl").write_text(
        json.dumps(line) + "\n" + json.dumps({"event": "finished", "step": 1}) + "\n"
    )
    hosts.save_state(plan, attempt=1, outcome="finished")
    with Stub() as stub:
        content = {"url": stub.url, "credentials": str(account), "certificate": "", "register": None}

        assert hosts.start(replace(plan, tracking=content)) == 0

        assert stub.metrics() == [("loss", 0.5, 1)]
        assert stub.statuses() == ["RUNNING", "FINISHED"]


def test_an_account_that_is_not_there_is_found_before_anything_starts(
    plan: LaunchPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hosts, "find_spec", lambda name: object())
    content = {
        "url": "https://192.0.2.9:5000",
        "credentials": str(plan.home / "none"),
        "certificate": "",
        "register": None,
    }

    with pytest.raises(UserError, match="does not exist"):
        hosts.check_host(replace(plan, tracking=content))


def test_a_missing_host_is_named(plan: LaunchPlan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosts, "run_on_host", lambda plan, host, verb: None)

    assert hosts.start(plan) == 1
    assert hosts.load_state(plan)["why"] == "not reached: cinder"


def test_what_an_earlier_start_left_is_found_by_what_it_runs() -> None:
    sleep = "import time; time.sleep(600)"
    left = subprocess.Popen([sys.executable, "-c", sleep, "-m", "workloads.training", "digits"])
    starter = subprocess.Popen([sys.executable, "-c", sleep, "-m", "horovod.runner.launch", "-m", "workloads.training"])
    try:
        assert {left.pid, starter.pid} & {*training_processes()} == {left.pid}
    finally:
        left.kill()
        starter.kill()
        left.wait()
        starter.wait()
