"""Line 6: one fleet against servers of two makers, with the features that each has, and the refusals of the others."""

import json
import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from rackwright.endpoints import s3_facts
from rackwright.kinds.bucket.policy import document
from rackwright.kinds.bucket.spec import BucketSpec
from rackwright.schema.object_store import Bucket, PolicyUsers
from tests.support import store_features
from tests.support.acceptance import line
from tests.support.expect import need
from tests.support.log import Log
from tests.support.object_store import SIGNING_KEY, Server, seaweedfs
from tests.support.store_project import BUCKET, STACK, StoreProject, store_project
from tests.support.versity import versity

USERS: Mapping[str, PolicyUsers] = {"seaweedfs": "arn", "versity": "access_key"}
LACKED: Mapping[str, set[str]] = {"seaweedfs": set(), "versity": {"lifecycle", "encryption"}}
"""The features that each server does not have, by its documentation."""
IN_FLEET = ("versioning", "retention", "lifecycle", "policy", "tags")
"""The features that the whole fleet needs. Encryption needs a server with a key, which neither has."""
DAYS, TEAM = 1, "models"
ARCHIVE = "model-1"
HAND: Mapping[str, Mapping[str, Any]] = {
    "tags": {"operation": "put_bucket_tagging", "Tagging": {"TagSet": [{"Key": "rackwright-owner", "Value": "cold"}]}},
    "policy": {"operation": "delete_bucket_policy"},
    "retention_days": {
        "operation": "put_object_lock_configuration",
        "ObjectLockConfiguration": {
            "ObjectLockEnabled": "Enabled",
            "Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": DAYS + 1}},
        },
    },
}
"""A request that changes each property by hand."""


@line("cold", 6)
@pytest.mark.parametrize("make", USERS)
def test_one_fleet_holds_on_servers_of_two_makers(make: str, log: Log) -> str:
    """A fleet that needs every feature; the server's missing ones are refused, and the rest is made, kept and used."""
    runs: Mapping[str, Callable[[Path], AbstractContextManager[Server]]]
    runs = {"seaweedfs": seaweedfs, "versity": partial(versity, progress=log)}
    with store_project(log.empty_directory(), runs[make], _fleet(make, set())) as project:
        works = _probe(project, make, log)
        lacked = LACKED[make] & {*IN_FLEET}
        refused = _refused(project)
        need(refused == lacked, f"preview refuses {sorted(refused)}, and the server lacks {sorted(lacked)}")
        project.declare(_fleet(make, lacked))
        log("making the bucket")
        _up(project)
        _mend(project, log)
        _archive(project, log)
    missing = "; ".join(f"{name} {text}" for name, text in works.items() if text != "yes")
    return (
        f"{sum(text == 'yes' for text in works.values())} of {len(works)} features; others: {missing or 'none'}; "
        f"refused: {', '.join(sorted(refused)) or 'nothing'}; {len(HAND)} changes by hand found and mended; "
        "an archive went there and back"
    )


def _fleet(make: str, lacked: set[str]) -> str:
    """Return the fleet without the settings that need the features *lacked*."""
    store = {
        "url": "https://store.example:8333",
        "policy_users": USERS[make],
        "credentials": {"access_key": "rackwright", "secret_key": {"secret": "archive_key"}},
    }
    bucket = {
        "store": "archive",
        "retention": {"mode": "governance", "days": DAYS},
        "expiry": {"uploads_days": "never"} if "lifecycle" in lacked else {"earlier_days": 30},
        "access": {"trainer": "write", "serving": "read_current"},
        "tags": {"team": TEAM},
    }
    return json.dumps({"fleet": "cold", "hosts": {}, "object_stores": {"archive": store}, "buckets": {BUCKET: bucket}})


def _probe(project: StoreProject, make: str, log: Log) -> Mapping[str, str]:
    """Return what each feature of the server does, and require that rackwright's own probe agrees."""
    server = project.server
    declared = Bucket.model_validate({"store": "archive", "access": {store_features.USER: "write"}})

    def policy(name: str) -> dict[str, Any]:
        spec = BucketSpec(fleet="cold", store="archive", name=name, declared=declared, account="000000000000")
        return document(spec.model_copy(update={"policy_users": USERS[make]}))

    works = store_features.probe(server, policy)
    facts = s3_facts.read(server.client(), server.client(None), SIGNING_KEY)["s3"]
    log(f"{facts['server']}: " + "; ".join(f"{name}: {text}" for name, text in works.items()))
    for name, known in facts["features"].items():
        need(known == (name not in LACKED[make]), f"the probe says {known} of {name}")
        need(name == "encryption" or known == (works[name] == "yes"), f"{name}: probed {known}, and {works[name]}")
    return works


def _refused(project: StoreProject) -> set[str]:
    """Return the features for which the preview refuses the fleet."""
    preview = project.rackwright("preview", STACK)
    text = preview.stdout + preview.stderr
    return {*re.findall(r" has no (\w+), so", text)}


def _up(project: StoreProject) -> None:
    made = project.rackwright("up", STACK, "--yes")
    need(made.returncode == 0, made.stdout[-1000:] + made.stderr[-1000:])
    need(project.rackwright("preview", STACK).returncode == 0, "a second run would change something")
    need(not (left := project.differing()), f"after `up` differ {sorted(left)}")


def _mend(project: StoreProject, log: Log) -> None:
    """Change the settings by hand, and require that each is found and mended."""
    log("changing settings by hand")
    client = project.server.client()
    for change in HAND.values():
        parameters = {key: value for key, value in change.items() if key != "operation"}
        getattr(client, change["operation"])(Bucket=BUCKET, **parameters)
    found, wanted = project.differing(), {f"bucket:{BUCKET}.{name}" for name in HAND}
    need(found == wanted, f"the audit found {sorted(found)}")
    _up(project)


def _archive(project: StoreProject, log: Log) -> None:
    """Move a directory into the bucket and back; retention keeps it from being deleted."""
    log("archiving a directory, and restoring it")
    source, back = project.directory / ARCHIVE, project.directory / "back"
    source.mkdir()
    content = {"config.json": b"{}", "weights.bin": bytes(range(256)) * (80 << 10)}
    for name, text in content.items():
        (source / name).write_bytes(text)
    for arguments in (
        ("move", STACK, str(source), BUCKET, "--yes"),
        ("verify", STACK, BUCKET),
        ("restore", STACK, BUCKET, ARCHIVE, "--to", str(back)),
        ("test", STACK, BUCKET),
    ):
        done = project.rackwright("tier", *arguments)
        need(done.returncode == 0, f"tier {arguments[0]}: {done.stdout[-1000:]}{done.stderr[-1000:]}")
    need({each.name: each.read_bytes() for each in back.iterdir()} == content, "other files came back")
    client, key = project.server.client(), f"{ARCHIVE}/files/config.json"
    version = client.head_object(Bucket=BUCKET, Key=key)["VersionId"]
    with pytest.raises(client.exceptions.ClientError):
        client.delete_object(Bucket=BUCKET, Key=key, VersionId=version)
