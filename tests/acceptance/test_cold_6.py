"""Line 6: one fleet against servers of three makers, with the features of each, and the refusals of the others."""

import json
import re
from collections.abc import Mapping
from typing import Any

import pytest

from rackwright.endpoints import minio as admin
from rackwright.endpoints import s3_facts
from rackwright.schema.object_store import Right
from tests.support import store_features
from tests.support.acceptance import line
from tests.support.expect import need
from tests.support.log import Log
from tests.support.object_store import SIGNING_KEY, USER_SECRETS
from tests.support.store_project import BUCKET, STACK, StoreProject, store_project
from tests.support.store_table import USERS, give_rights, servers

LACKED: Mapping[str, set[str]] = {
    "seaweedfs": set(),
    "versity": {"lifecycle", "upload expiry", "encryption"},
    "minio": {"upload expiry"},
}
"""The features that each server does not have, by its documentation."""
IN_FLEET = ("versioning", "retention", "lifecycle", "upload expiry", "policy", "tags")
"""The features that the whole fleet needs. Encryption needs a server with a key, which neither has."""
DAYS, TEAM = 1, "models"
ACCESS: Mapping[str, str] = {"trainer": "write", "serving": "read_current"}
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
def test_one_fleet_holds_on_servers_of_three_makers(make: str, log: Log) -> str:
    """A fleet that needs every feature; the server's missing ones are refused, and the rest is made, kept and used."""
    with store_project(log.empty_directory(), servers(log)[make], _fleet(make, set())) as project:
        works = _probe(project, make, log)
        lacked = LACKED[make] & {*IN_FLEET}
        if make == "minio":
            _need_refusal_of_rights(project)
        refused = _refused(project)
        need(refused == lacked, f"preview refuses {sorted(refused)}, and the server lacks {sorted(lacked)}")
        project.declare(_fleet(make, lacked))
        log("making the bucket")
        _up(project)
        _mend(project, make, log)
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
        "listing": "by_folder" if make == "seaweedfs" else "by_byte",
        "credentials": {"access_key": "rackwright", "secret_key": {"secret": "archive_key"}},
        "users": {
            name: {"access_key": name, "secret_key": {"secret": secret}} for name, secret in USER_SECRETS.items()
        },
    }
    bucket = {
        "store": "archive",
        "retention": {"mode": "governance", "days": DAYS},
        "expiry": ({} if "lifecycle" in lacked else {"earlier_days": 30})
        | ({"uploads_days": "never"} if "upload expiry" in lacked else {}),
        "access": dict(ACCESS),
        "tags": {"team": TEAM},
    }
    return json.dumps({"fleet": "cold", "hosts": {}, "object_stores": {"archive": store}, "buckets": {BUCKET: bucket}})


def _probe(project: StoreProject, make: str, log: Log) -> Mapping[str, str]:
    """Return what each feature of the server does, and require that rackwright's own probe agrees."""
    server = project.server
    access: dict[str, Right] = {store_features.USER: "write"}
    works = store_features.probe(server, lambda client, name: give_rights(make, client, name, access))
    facts = s3_facts.read(server.client(), server.client(None), SIGNING_KEY)["s3"]
    log(f"{facts['server']}: " + "; ".join(f"{name}: {text}" for name, text in works.items()))
    for name, known in facts["features"].items():
        need(known == (name not in LACKED[make]), f"the probe says {known} of {name}")
        need(name == "encryption" or known == (works[name] == "yes"), f"{name}: probed {known}, and {works[name]}")
    return works


def _need_refusal_of_rights(project: StoreProject) -> None:
    """Require that preview refuses rights which MinIO would accept and not enforce."""
    fleet = json.loads((project.directory / "stacks/cold.yaml").read_text())
    store = fleet["object_stores"]["archive"]
    project.declare(json.dumps(fleet | {"object_stores": {"archive": store | {"policy_users": "access_key"}}}))
    preview = project.rackwright("preview", STACK)
    text = " ".join((preview.stdout + preview.stderr).split())
    need("Write `policy_users: minio` at object_stores.archive" in text, text[-1000:])
    project.declare(json.dumps(fleet))


def _refused(project: StoreProject) -> set[str]:
    """Return the features for which the preview refuses the fleet."""
    preview = project.rackwright("preview", STACK)
    text = " ".join((preview.stdout + preview.stderr).split())
    return {*re.findall(r" has no ([a-z ]+), so", text)}


def _up(project: StoreProject) -> None:
    made = project.rackwright("up", STACK, "--yes")
    need(made.returncode == 0, made.stdout[-1000:] + made.stderr[-1000:])
    need(project.rackwright("preview", STACK).returncode == 0, "a second run would change something")
    need(not (left := project.differing()), f"after `up` differ {sorted(left)}")


def _mend(project: StoreProject, make: str, log: Log) -> None:
    """Change the settings by hand, and require that each is found and mended; that of rights by trial as well."""
    log("changing settings by hand")
    client = project.server.client()
    for change in HAND.values():
        parameters = {key: value for key, value in change.items() if key != "operation"}
        getattr(client, change["operation"])(Bucket=BUCKET, **parameters)
    if make == "minio":  # it has no use for the policy of the bucket
        admin.set_rights(client, BUCKET, BUCKET, {})
    tried = {f"rights:{BUCKET}/{user}.allowed" for user in ACCESS}
    found, wanted = project.differing(), {f"bucket:{BUCKET}.{name}" for name in HAND} | tried
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
