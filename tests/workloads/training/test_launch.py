"""Starting several processes here: by Horovod where it is, else by torchrun, which the run then insists on."""

from workloads.training.launch import command, environment


def test_horovod_leads_where_it_is_and_the_run_insists_on_it() -> None:
    launcher, *rest = command(2, ["digits", "--out", "out"], horovod=True)
    assert launcher.endswith("/bin/horovodrun")
    assert rest[:2] == ["-np", "2"]
    assert rest[-8:] == [
        "workloads.training", "digits", "--out", "out", "--set", "launcher=horovod", "--set", "world=2",
    ]  # fmt: skip


def test_torchrun_leads_elsewhere() -> None:
    launcher, *rest = command(3, ["digits"], horovod=False)
    assert launcher.endswith("/bin/torchrun")
    assert rest == [
        "--nproc-per-node", "3", "-m", "workloads.training", "digits", "--set", "launcher=torchrun", "--set", "world=3",
    ]  # fmt: skip


def test_cores_are_shared_unless_somebody_has_said_how() -> None:
    assert environment(10**6, {})["OMP_NUM_THREADS"] == "1"
    assert environment(2, {"OMP_NUM_THREADS": "7"})["OMP_NUM_THREADS"] == "7"
