"""The GPUs that the processes of a run or a server see."""

import json
from pathlib import Path

import pytest

from workloads.errors import UserError
from workloads.gpus import VARIABLE, visible_gpus
from workloads.training.plan import LaunchHost, LaunchPlan, process_environment

UUID = "GPU-00000000-0000-0000-0000-000000000001"


@pytest.mark.parametrize(("uuids", "shown"), [([UUID], UUID), ([], "2,3")])
def test_uuids_are_visible_and_without_them_indices(tmp_path: Path, uuids: list[str], shown: str) -> None:
    path = tmp_path / "server-talk.json"
    path.write_text(json.dumps({"fleet": "lab", "gpus": ["2", "3"], "uuids": uuids}))
    assert visible_gpus({VARIABLE: str(path)}) == {
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": shown, "HIP_VISIBLE_DEVICES": shown,
    }  # fmt: skip


def test_without_a_file_all_gpus_stay_visible() -> None:
    assert visible_gpus({}) == {}


@pytest.mark.parametrize("content", [None, "{", "[]", "{}"])
def test_a_file_that_cannot_be_read_is_an_error_and_not_all_gpus(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "server-talk.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match="the GPUs of this host cannot be read"):
        visible_gpus({VARIABLE: str(path)})


def test_the_processes_of_all_hosts_of_a_run_get_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    here = LaunchHost("node-1", "localhost")
    folder = Path("/var/lib")
    plan = LaunchPlan(
        name="digits", host="node-1", hosts=(here,), processes=1, launcher="torchrun", min_processes=None,
        interface=None, config=folder, out=folder, home=folder, log=folder, grace_seconds=10, data=None, provenance={},
    )  # fmt: skip
    monkeypatch.delenv(VARIABLE, raising=False)
    assert VARIABLE not in process_environment(plan)
    monkeypatch.setenv(VARIABLE, "/etc/rackwright/gpus/run-digits.json")
    assert process_environment(plan)[VARIABLE] == "/etc/rackwright/gpus/run-digits.json"
