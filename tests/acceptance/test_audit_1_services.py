"""Line 1, the services: deviations of an object store, its buckets, an MLflow server, a run and a model server."""

import json
from collections.abc import Callable

from rackwright.stack import load_stack
from tests.support.acceptance import line
from tests.support.audit_lab import findings
from tests.support.audit_seeds import FOLLOWS, RELOAD, Seeds, generated
from tests.support.expect import need
from tests.support.lab import Lab
from tests.support.log import Log
from tests.support.store_lab import DISKS, GATEWAY, STORE, store_lab
from tests.support.tiny_server_lab import HOST, UNIT, tiny_server_lab
from tests.support.training_lab import LAUNCHER, OTHER, RUN, training_lab

BUCKET = "backups"
EVERYBODY = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Principal": "*", "Action": "s3:ListBucket", "Resource": f"arn:aws:s3:::{BUCKET}"}
    ],
}
OF_BUCKET = {
    f"{STORE}/{BUCKET} bucket:{BUCKET}.{name}"
    for name in ("versioning", "earlier_days", "uploads_days", "policy", "anonymous")
}
MLFLOW: Seeds = {
    LAUNCHER: {
        f"{LAUNCHER}/mlflow unit:mlflow.service.active": "systemctl stop mlflow.service",
        f"{LAUNCHER}/mlflow socket:tcp:5000.addresses": FOLLOWS,
    }
}
SERVER: Seeds = {HOST: {f"{HOST}/digits unit:{UNIT}.state": f"systemctl disable {UNIT}"}}


@line("audit", 1, part="store")
def test_deviations_of_an_object_store_and_its_buckets_are_found(log: Log) -> str:
    def change_bucket() -> None:
        client = lab.client()
        client.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Suspended"})
        client.delete_bucket_lifecycle(Bucket=BUCKET)
        client.put_bucket_policy(Bucket=BUCKET, Policy=json.dumps(EVERYBODY))

    with store_lab(log) as lab:
        return _judge(lab, (lab.stack,), {GATEWAY: {}, DISKS: {}}, change_bucket, OF_BUCKET)


@line("audit", 1, part="training")
def test_deviations_of_a_run_and_of_its_tracking_server_are_found(log: Log) -> str:
    with training_lab(log, tracked=True) as lab:
        lab.ssh(LAUNCHER, f"systemctl is-active training-{RUN}.service")
        return _judge(lab, (lab.hosts_stack, lab.stack), {**MLFLOW, OTHER: {}})


@line("audit", 1, part="serving")
def test_deviations_of_a_model_server_are_found(log: Log) -> str:
    with tiny_server_lab(log) as lab:
        return _judge(lab, (lab.stack,), SERVER)


def _judge(
    lab: Lab,
    stacks: tuple[str, ...],
    by_hand: Seeds,
    also: Callable[[], None] | None = None,
    found_too: frozenset[str] | set[str] = frozenset(),
) -> str:
    """Require that the audits of *stacks* find nothing at first, and each seed and nothing else afterwards.

    Args:
        by_hand: Seeds beside the generated ones, for each host with seeds.
        also: A change that is no command on a host, which leads to *found_too*.
    """
    for name in stacks:
        report = json.loads(lab.rackwright("audit", name, "--json", status=0).stdout)
        need(not findings(report), f"{name} is not as declared: {sorted(findings(report))}")
    seeds = {host: dict(table) for host, table in by_hand.items()}
    for name in stacks:
        for host, table in generated(load_stack(name, lab.directory), by_hand).items():
            if host in seeds:
                seeds[host] |= table
    for host, table in seeds.items():
        lab.log(f"{len(table)} seeds on {host}")
        lab.ssh(host, "\n".join([*table.values(), RELOAD]))
    if also:
        also()
    found: set[str] = set()
    for name in stacks:
        report = json.loads(lab.rackwright("audit", name, "--json", status=1).stdout)
        found |= findings(report)
        unmeant = [item["path"] for item in report["findings"] if item["state"] not in ("differs", "undeclared")]
        need(not unmeant, f"unknown: {unmeant}")
    expected = {path for table in seeds.values() for path in table} | found_too
    need(not expected - found, f"not found: {sorted(expected - found)}")
    need(not found - expected, f"found besides: {sorted(found - expected)}")
    return f"{len(found)} deviations of {', '.join(stacks)} found, nothing else"
