"""The table of what each object store does, in the guide of the cold tier, from checks of real servers."""

import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

from rackwright.endpoints import minio as admin
from rackwright.endpoints import s3_facts, s3_rights
from rackwright.kinds.bucket.policy import document, user_documents
from rackwright.kinds.bucket.spec import BucketSpec
from rackwright.progress import Progress
from rackwright.schema.object_store import Bucket, PolicyUsers, Right, allowed_operations
from tests.support import store_features
from tests.support.log import ROOT
from tests.support.minio import minio
from tests.support.object_store import Server, seaweedfs
from tests.support.versity import versity

PAGE = ROOT / "docs/guides/cold-tier.md"
BEGIN, END = "<!-- features by store: from clusters.4 -->\n\n", "\n<!-- end -->\n"
USERS: Mapping[str, PolicyUsers] = {"seaweedfs": "arn", "versity": "access_key", "minio": "minio"}
TITLES = {
    "seaweedfs": "SeaweedFS 4.48",
    "minio": "MinIO of 12 February 2026",
    "versity": "Versity's gateway 1.8.0",
}
ACCESS: Mapping[str, Right] = {"trainer": "write", "auditor": "read", "serving": "read_current"}
KEYS_IN_ORDER = ("x-1", "x.txt", "x/a", "x/y/z")
PAIRS = {"a//b": "a/b", "/k": "k", "p\\q": "p/q"}
"""Keys that are two in S3."""


def servers(progress: Progress) -> Mapping[str, Callable[[Path], AbstractContextManager[Server]]]:
    """Return a function for each server that runs it with its data in an empty directory."""
    return {
        "seaweedfs": seaweedfs,
        "versity": partial(versity, progress=progress),
        "minio": partial(minio, progress=progress),
    }


def give_rights(make: str, client: Any, bucket: str, access: Mapping[str, Right]) -> None:
    """Give users the rights of *access* on a bucket in the way of the server *make*."""
    declared = Bucket.model_validate({"store": "archive", "access": dict(access)})
    spec = BucketSpec(fleet="cold", store="archive", name=bucket, declared=declared, account="000000000000")
    spec = spec.model_copy(update={"policy_users": USERS[make]})
    if USERS[make] == "minio":
        admin.set_rights(client, bucket, bucket, user_documents(spec))
    else:
        client.put_bucket_policy(Bucket=bucket, Policy=json.dumps(document(spec)))


def column(make: str, server: Server) -> dict[str, str]:
    """Return the cells of the server *make*: each check with `yes`, or what is different."""
    works = store_features.probe(server, lambda client, bucket: give_rights(make, client, bucket, {"trainer": "write"}))
    cells = {name: "yes" if text == "yes" else "no" for name, text in works.items()}
    return cells | _rights(make, server) | {"listing by byte": _order(server)} | _pairs(server)


def _rights(make: str, server: Server) -> dict[str, str]:
    client, users = server.client(), {user: server.client(user) for user in ACCESS}
    client.create_bucket(Bucket="rights")
    none = s3_rights.try_rights(client, users, ["rights"])["rights"]
    cells = {"no right without a declaration": "yes" if not any(none.values()) else "no"}
    give_rights(make, client, "rights", ACCESS)
    tried = s3_rights.try_rights(client, users, ["rights"])["rights"]
    for user, right in ACCESS.items():
        further = {*tried[user]} - {*allowed_operations(right, "arn")}
        missing = {*allowed_operations(right, "arn")} - {*tried[user]}
        cells[f"`access: {right}`"] = _difference(further, missing)
    return cells


def _difference(further: set[str], missing: set[str]) -> str:
    texts = [f"and {each}" for each in sorted(further)] + [f"without {each}" for each in sorted(missing)]
    return ", ".join(["yes", *texts])


def _order(server: Server) -> str:
    client = server.client()
    client.create_bucket(Bucket="order")
    for key in KEYS_IN_ORDER:
        client.put_object(Bucket="order", Key=key, Body=b"1")
    return {"by_byte": "yes", "by_folder": "no"}[s3_facts._listing(client, "order")]


def _pairs(server: Server) -> dict[str, str]:
    client, cells = server.client(), {}
    client.create_bucket(Bucket="pairs")
    for first, second in PAIRS.items():
        for key in (first, second):
            try:
                client.put_object(Bucket="pairs", Key=key, Body=key.encode())
                found = client.get_object(Bucket="pairs", Key=first)["Body"].read().decode()
            except client.exceptions.ClientError:
                found = ""
                break
        cells[f"`{first}` is not `{second}`"] = {first: "yes", "": "refused"}.get(found, "no")
    return cells


def table(columns: Mapping[str, Mapping[str, str]]) -> str:
    """Return the table of *columns* by server."""
    makes = [make for make in TITLES if make in columns]
    names = list(dict.fromkeys(name for make in makes for name in columns[make]))
    rows = [["check", *(TITLES[make] for make in makes)], ["---"] * (len(makes) + 1)]
    rows += [[name, *(columns[make].get(name, "not tried") for make in makes)] for name in names]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def shown() -> str:
    """Return the table in the guide."""
    return PAGE.read_text().partition(BEGIN)[2].partition(END)[0]


def write(text: str) -> None:
    """Replace the table in the guide."""
    before, begin, rest = PAGE.read_text().partition(BEGIN)
    assert begin, f"{PAGE} has no line {BEGIN!r}"
    PAGE.write_text(f"{before}{begin}{text}{END}{rest.partition(END)[2]}")
