"""Starting several processes here: by Horovod or by torchrun, as model and machine need, with the reason."""

import sys
from pathlib import Path

import pytest

from tests.support.training_runs import config
from workloads.training import launch
from workloads.training.launch import choose_launcher, command, environment, has_gpus


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
        "--standalone", "--nproc-per-node", "3",
        "-m", "workloads.training", "digits", "--set", "launcher=torchrun", "--set", "world=3",
    ]  # fmt: skip


def test_cores_are_shared_unless_declared_otherwise() -> None:
    assert environment(10**6, {})["OMP_NUM_THREADS"] == "1"
    assert environment(2, {"OMP_NUM_THREADS": "7"})["OMP_NUM_THREADS"] == "7"


@pytest.mark.parametrize(
    ("recipe", "changes", "horovod", "gpus", "chosen"),
    [
        ("digits", (), True, True, ("horovod", "a classifier")),
        ("deepseek-v3-tiny", (), True, True, ("torchrun", "a language model on GPUs")),
        ("deepseek-v3-tiny", (), True, False, ("horovod", "a language model on CPUs")),
        ("deepseek-v3-tiny", ("sharding=full",), True, False, ("torchrun", "its processes can share a model")),
        ("deepseek-v3-tiny", ("launcher=horovod",), True, True, ("horovod", "the configuration names it")),
        ("deepseek-v3-tiny", ("elastic=true",), True, True, ("horovod", "the run is elastic")),
        ("digits", (), False, False, ("torchrun", "Horovod is not installed")),
    ],
)
def test_the_launcher_follows_from_model_and_machine(
    recipe: str, changes: tuple[str, ...], horovod: bool, gpus: bool, chosen: tuple[str, str]
) -> None:
    assert choose_launcher(config(recipe, *changes), horovod, gpus) == chosen


def test_the_launcher_and_the_reason_are_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    started: list[str] = []
    monkeypatch.setattr(launch, "has_gpus", lambda: True)
    monkeypatch.setattr(launch.os, "execve", lambda program, argv, variables: started.extend(argv))
    monkeypatch.setattr(sys, "argv", ["launch", "-np", "2", "deepseek-v3-tiny", "--out", "out"])
    launch.main()
    assert capsys.readouterr().out == "launcher: torchrun (a language model on GPUs)\n"
    assert started[0].endswith("/bin/torchrun")


def test_gpus_are_known_by_their_device_files(tmp_path: Path) -> None:
    (tmp_path / "nvidiactl").touch()
    assert not has_gpus(tmp_path)
    (tmp_path / "nvidia0").touch()
    assert has_gpus(tmp_path)
