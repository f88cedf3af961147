"""Line 1: an object store on two hosts of the twin takes a version of a model, and another host serves it again."""

import hashlib
import json
import shutil
from pathlib import Path

from rackwright.schema.secret import derive_value
from tests.support.acceptance import line
from tests.support.expect import need
from tests.support.lab import format_claims
from tests.support.log import Log
from tests.support.models import FIRST
from tests.support.serving_lab import make_models
from tests.support.store_lab import ADDRESSES, BUCKETS, DISKS, GATEWAY, STACK, USER, StoreLab, store_lab

BUCKET, VERSION = "models", "digits-v1"
PLACED = f"{USER}.models.{VERSION}"
"""Name of the archive that the placement of the fleet makes of it."""
TARGET = f"/srv/warm/models/{VERSION}"
SERVING, SERVER, PORT = "serving", "digits", 8080
ZEROS = [0.0] * 64


@line("cold", 1)
def test_a_version_goes_to_the_store_and_another_host_serves_it_again(log: Log) -> str:
    """A version is archived, deleted, tested, restored on another host and served there; nothing differs."""
    with store_lab(log, workloads=True) as lab:
        need(not (left := lab.differing()), f"after `up` differ {format_claims(left)}")
        names = {each["Name"] for each in lab.client().list_buckets()["Buckets"]}
        need(names == {*BUCKETS}, f"the store has the buckets {sorted(names)}")
        make_models(log, lab.directory / "models")
        model = lab.directory / VERSION
        shutil.copytree(lab.directory / "models" / FIRST, model)
        digests, version = _digests(model), json.loads((model / "model.json").read_text())["version"]
        log("archiving the version")
        lab.rackwright("tier", "move", STACK, str(model), BUCKET, "--yes", status=0)
        need(not model.exists(), "the directory is still there")
        _need_same_outputs(lab)
        log(f"restoring it on {USER}")
        lab.rackwright("tier", "restore", STACK, BUCKET, VERSION, "--to", f"{USER}:{TARGET}", status=0)
        need(_digests_on_host(lab) == digests, f"{USER} has other files")
        _need_served(lab, version)
        log("placing it as declared, and restoring it from there")
        lab.rackwright("tier", "plan", STACK, "--json", status=0)
        result = json.loads(lab.rackwright("tier", "move", STACK, "--yes", "--json", status=0).stdout)
        need([each["target"] for each in result["moved"]] == [PLACED], f"moved {result}")
        need(lab.ssh(USER, f"ls {TARGET}", status=None) == "", f"{USER} has still files in {TARGET}")
        lab.rackwright("tier", "restore", STACK, "backups", PLACED, "--to", f"{USER}:{TARGET}", status=0)
        need(_digests_on_host(lab) == digests, f"{USER} has other files after the placement")
        need(not (left := lab.differing()), f"in the end differ {format_claims(left)}")
    return f"version {version}: {len(digests)} files went to {GATEWAY} and {DISKS}, and {USER} serves it"


def _need_same_outputs(lab: StoreLab) -> None:
    """Require that the first restore test records the outputs of the model, and that the second finds the same."""
    for wanted in ("recorded", "same"):
        printed = lab.rackwright("tier", "test", STACK, BUCKET, "--json", status=0).stdout
        [test] = json.loads(printed)["tests"]
        need((test["passed"], test["canary"]) == (True, wanted), f"the restore test says {test}")


def _need_served(lab: StoreLab, version: str) -> None:
    """Require that the host serves the restored model of that *version*."""
    lab.log("serving it there")
    server = {
        "model": {"tier": "warm", "path": f"models/{VERSION}", "version": version},
        "hosts": [USER],
        "keys": {"app": {"secret": "digits_app"}},
        "environment": {"path": "/opt/workloads"},
        "ready_seconds": 900,
        "set": {"threads": 1},
    }
    stacks = lab.fleet_path.parent
    fleet = {"fleet": SERVING, "uses": lab.fleet_path.name, "servers": {SERVER: server}}
    (stacks / f"{SERVING}.yaml").write_text(json.dumps(fleet))
    config = {"rackwright:fleet": f"{SERVING}.yaml", "rackwright:target": lab.target}
    (stacks / f"Pulumi.{SERVING}.yaml").write_text(json.dumps({"config": config}))
    lab.stack = SERVING
    try:
        lab.up()
        need(not (left := lab.differing()), f"of the server differ {format_claims(left)}")
    finally:
        lab.stack = STACK
    body = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 8, 8], "data": ZEROS}]})
    url = f"http://{ADDRESSES[USER]}:{PORT}/v2/models/{SERVER}/infer"
    key = derive_value("digits_app")
    answer = lab.ssh(USER, f"curl -s -m 60 -H 'Authorization: Bearer {key}' -d '{body}' {url}")
    need(f'"model_version":"{version}"' in answer.replace('": "', '":"'), f"the server says {answer}")


def _digests(directory: Path) -> dict[str, str]:
    files = (path for path in directory.rglob("*") if path.is_file())
    return {str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _digests_on_host(lab: StoreLab) -> dict[str, str]:
    """Return the digests of the files on the host, by their paths."""
    lines = lab.ssh(USER, f"cd {TARGET} && find . -type f | xargs sha256sum").splitlines()
    return {path.removeprefix("./"): digest for digest, path in (each.split("  ", 1) for each in lines)}
