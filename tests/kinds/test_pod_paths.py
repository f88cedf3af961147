"""What a run in pods reads from its hosts: models, data and tokenizers, as files and as directories."""

import json
from typing import Any

from rackwright.kinds.pods.mounts import mounts
from rackwright.kinds.pods.spec import WorkloadPart
from tests.support.pod_workloads import RUN, TRAINING, made
from workloads.recipes import RECIPES
from workloads.training.config import TrainingConfig

BASE, FILE = "/srv/warm/models/base", "/srv/warm/data/letters.jsonl"


def reading(*paths: str) -> WorkloadPart:
    return TRAINING.model_copy(update={"run": RUN.model_copy(update={"reads": paths})})


def containers(workload: WorkloadPart) -> list[Any]:
    jobs = [each for each in made(workload).values() if each["kind"] == "Job"]
    return [each for job in jobs for each in job["spec"]["template"]["spec"]["containers"]]


def test_each_path_that_a_run_reads_is_in_all_of_its_pods_and_nothing_beside_it():
    workload = reading(BASE, FILE)
    shown = {each.source for each in mounts(workload)}
    assert {"/srv/warm/models", "/srv/warm/data"} < shown and not {BASE, FILE} & shown
    found = containers(workload)
    assert len(found) == 2
    for each in found:
        parts = {mount["mountPath"]: mount for mount in each["volumeMounts"] if mount["name"].startswith("reads-")}
        assert {path: mount["subPath"] for path, mount in parts.items()} == {BASE: "base", FILE: "letters.jsonl"}
        assert all(mount["readOnly"] for mount in parts.values())


def test_paths_of_one_directory_have_one_volume():
    workload = reading("/srv/warm/models/a", "/srv/warm/models/b")
    assert [each.source for each in mounts(workload) if "reads" in each.target] == ["/srv/warm/models"]
    [first, _] = containers(workload)
    assert len([each for each in first["volumeMounts"] if each["name"] == "reads-0"]) == 2


def test_a_directory_below_the_root_has_a_volume_of_its_own():
    workload = reading("/data")
    assert [each.source for each in mounts(workload) if "reads" in each.target] == ["/data"]
    assert ["subPath" in each for each in containers(workload)[0]["volumeMounts"] if each["name"] == "reads-0"] == [
        False
    ]


def test_a_path_that_pods_have_already_needs_no_volume():
    there = ("/usr/share/x", "/opt/workloads/model", f"{TRAINING.out}/parent")
    assert [each for each in mounts(reading(*there)) if "reads" in each.target] == []
    beside = reading("/usr-2/x", f"{TRAINING.out}-2")
    assert len([each for each in mounts(beside) if "reads" in each.target]) == 2


def test_a_configuration_names_all_that_it_reads():
    values = RECIPES["lora"]().model_dump(mode="json")
    data = {"kind": "conversations", "path": FILE, "tokenizer": f"{BASE}/", "sequence_length": 64}
    old = {"kind": "text", "path": "/srv/old", "sequence_length": 64, "tokenizer": "/srv/tokens"}
    changes: dict[str, Any] = {
        "name": "letters",
        "model": {"kind": "hugging-face", "path": BASE},
        "data": data,
        "fine_tuning": {"parent": "/srv/hot/runs/first", "old": [old], "replay": 0.5},
    }
    config = TrainingConfig.model_validate_json(json.dumps(values | changes))
    assert config.paths == ("/srv/hot/runs/first", "/srv/old", "/srv/tokens", FILE, BASE)

    masked = data | {"masked_by": {"policy": "letters", "sha256": "ab" * 32}}
    changes = {"name": "letters", "model": {"kind": "hugging-face", "path": "base"}, "data": masked}
    config = TrainingConfig.model_validate_json(json.dumps(values | changes))
    assert config.paths == ("/srv/warm/data", FILE, BASE), "the report is beside the file, and `base` is relative"


def test_a_recipe_with_its_own_data_reads_nothing():
    values = RECIPES["digits"]().model_dump(mode="json")
    assert TrainingConfig.model_validate_json(json.dumps(values | {"name": "digits"})).paths == ()
