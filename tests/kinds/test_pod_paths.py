"""What a run in pods reads from its hosts: models, data and tokenizers, in directories."""

import json
from types import SimpleNamespace
from typing import Any, cast

import pytest

from rackwright.core.contract import Command
from rackwright.facts.facts import Facts
from rackwright.kinds.cluster import admission
from rackwright.kinds.pods import mounts
from rackwright.kinds.pods.mounts import ReadOnlyMount
from rackwright.kinds.pods.spec import MOUNTS, WorkloadPart
from rackwright.kinds.shared.pod_volumes import claim_name
from rackwright.schema.run import Run, _config_problems
from tests.support.pod_workloads import RUN, TRAINING, made
from workloads.recipes import RECIPES
from workloads.training.config import TrainingConfig

BASE, DATA = "/srv/warm/models/base", "/srv/warm/data/letters"


def reading(*paths: str) -> WorkloadPart:
    return TRAINING.model_copy(update={"run": RUN.model_copy(update={"reads": paths})})


def read_mounts(workload: WorkloadPart) -> list[ReadOnlyMount]:
    return [each for each in mounts.mounts(workload) if "/reads-" in each.target]


def test_each_directory_that_a_run_reads_is_in_all_of_its_pods_and_nothing_beside_it():
    workload = reading(BASE, DATA)
    assert {each.source for each in read_mounts(workload)} == {BASE, DATA}
    assert all(each.whole for each in read_mounts(workload))
    jobs = [each for each in made(workload).values() if each["kind"] == "Job"]
    found = [each for job in jobs for each in job["spec"]["template"]["spec"]["containers"]]
    assert len(found) == 2
    for each in found:
        parts = [mount for mount in each["volumeMounts"] if mount["name"].startswith("reads-")]
        assert {mount["mountPath"] for mount in parts} == {BASE, DATA}
        assert all(mount["readOnly"] and "subPath" not in mount for mount in parts)


def test_the_policies_know_the_claims_of_what_a_run_reads():
    items = made(reading(BASE, DATA)).values()
    claims = [each["metadata"]["name"] for each in items if each["kind"] == "PersistentVolumeClaim"]
    assert len([name for name in claims if "-reads-" in name]) == 2
    assert all(admission.is_our_claim(name) for name in claims)
    with pytest.raises(ValueError, match="no name of a claim"):
        claim_name("run-digits", "letters", "0123abcd")


def test_a_volume_shows_the_same_directory_whatever_else_is_declared():
    [before] = read_mounts(reading("/srv/warm/z"))
    after = {each.source: each.target for each in read_mounts(reading("/srv/warm/a", "/srv/warm/z"))}
    assert after["/srv/warm/z"] == before.target


def test_a_mount_of_an_earlier_declaration_is_a_difference_and_ends():
    [_, old] = sorted(read_mounts(reading("/srv/warm/a", "/srv/warm/z")), key=lambda each: each.source)
    workload = reading("/srv/warm/a")
    declared = mounts.names_in(mounts.claims(workload))
    point = SimpleNamespace(target=old.target)
    found = cast(Facts, SimpleNamespace(mounts=[point, *(SimpleNamespace(target=each) for each in declared)]))
    directory = f"{MOUNTS}/{workload.owner}"
    assert mounts.undeclared_mounts(found, directory, declared) == (old.target,)
    [step] = mounts.steps(workload, {f"mounts:{directory}"}, found)
    assert isinstance(step, Command) and step.argv[-2:] == (old.unit, old.target)
    assert [claim.thing for claim in mounts.claims(workload)][-1] == f"mounts:{directory}"


@pytest.mark.parametrize("path", ["/srv/a b", "/srv/a;b", "/srv/%H", "/srv/$HOME", "/srv/a\n", "srv", "/srv/", "/s'"])
def test_no_other_text_reaches_a_unit(path: str):
    with pytest.raises(ValueError, match="no path for a unit"):
        mounts.mounts(reading(path))


def test_a_path_that_pods_have_already_needs_no_volume():
    assert read_mounts(reading("/opt/workloads/model", f"{TRAINING.out}/parent")) == []
    assert len(read_mounts(reading("/opt/workloads-2", f"{TRAINING.out}-2"))) == 2


def test_a_configuration_names_all_that_it_reads():
    values = RECIPES["lora"]().model_dump(mode="json")
    data = {"kind": "conversations", "path": DATA, "tokenizer": BASE, "sequence_length": 64}
    old = {"kind": "text", "path": "/srv/old", "sequence_length": 64, "tokenizer": "/srv/tokens"}
    changes: dict[str, Any] = {
        "name": "letters",
        "model": {"kind": "hugging-face", "path": BASE},
        "data": data,
        "fine_tuning": {"parent": "/srv/hot/runs/first", "old": [old], "replay": 0.5},
    }
    assert TrainingConfig.model_validate_json(json.dumps(values | changes)).paths == {
        ("model", "path"): BASE,
        ("data", "path"): DATA,
        ("data", "tokenizer"): BASE,
        ("fine_tuning", "parent"): "/srv/hot/runs/first",
        ("fine_tuning", "old", 0, "path"): "/srv/old",
        ("fine_tuning", "old", 0, "tokenizer"): "/srv/tokens",
    }
    values = RECIPES["digits"]().model_dump(mode="json")
    assert TrainingConfig.model_validate_json(json.dumps(values | {"name": "digits"})).paths == {}


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("/srv/warm/data /run/y ; /usr/bin/touch /tmp/x", "letters, digits"),
        ("/srv/%H", "letters, digits"),
        ("data", "a path is absolute"),
        ("/srv/../etc", "a path is absolute"),
        ("/etc/kubernetes", "a directory of data, and none below"),
        ("/root", "a directory of data, and none below"),
        ("/var/lib/kubelet/pki", "a directory of data, and none below"),
        ("/srv/warm/letters.jsonl", "pods get directories"),
    ],
)
def test_pods_are_shown_directories_of_data_alone(path: str, problem: str):
    data = {"kind": "conversations", "path": path, "tokenizer": BASE, "sequence_length": 64}
    pods = {"team": "vision", "count": 1, "cpus": 1, "memory": "2GiB"}
    values = {"recipe": "lora", "hosts": ["a"], "on": "kubernetes", "pods": pods, "checkpoints": {"tier": "warm"}}
    run = Run.model_validate({**values, "set": {"model": {"path": BASE}, "data": data}})
    [found] = _config_problems("letters", run, 1)
    assert problem in str(found) and found.path == ("set", "data", "path")
    several = Run.model_validate(
        {**values, "on": "hosts", "pods": None, "set": {"model": {"path": BASE}, "data": data}}
    )
    assert [*_config_problems("letters", several, 1)] == []
