"""The trial of users' rights on a real SeaweedFS, and what the provider says of a right without an effect."""

import json
from dataclasses import replace
from typing import Any

import pytest

from rackwright.endpoints import s3_rights
from rackwright.endpoints.s3 import connect
from rackwright.facts.view import UnknownFact
from rackwright.kinds.bucket.policy import document
from rackwright.kinds.bucket.spec import BucketSpec
from rackwright.schema.object_store import ALLOWED, Bucket, Credentials
from rackwright.stack import Stack
from tests.support.object_store import KEYS, store_stack
from tests.support.recorded_hosts import STACK

ACCESS = {"trainer": "write", "auditor": "read", "serving": "read_current"}
DECLARED = Bucket.model_validate({"store": "archive", "access": ACCESS})


def policy(name: str) -> str:
    spec = BucketSpec(fleet="small", store="archive", name=name, declared=DECLARED, account="000000000000")
    return json.dumps(document(spec))


def stack_with_keys(server: Any, name: str, **keys: str) -> Stack:
    """Return the stack whose fleet has a bucket of that name, and the keys of the users."""
    stack = store_stack(STACK, server)
    users = {
        user: Credentials.model_validate({"access_key": user, "secret_key": {"secret": f"{user}_key"}})
        for user in ACCESS
    }
    store = stack.fleet.object_stores["archive"].model_copy(update={"users": users})
    fleet = stack.fleet.model_copy(update={"object_stores": {"archive": store}, "buckets": {name: DECLARED}})
    secrets = {**stack.repository.secrets, **{f"{user}_key": key for user, key in keys.items()}}
    return replace(stack, fleet=fleet, repository=replace(stack.repository, secrets=secrets))


@pytest.mark.parametrize("versioning", [True, False])
@pytest.mark.parametrize("key", [None, "a/b"])
def test_each_right_is_found_by_trial_and_the_trial_leaves_nothing(server, versioning, key):
    name = f"tried-{versioning}-{key is None}".lower()
    client = server.client()
    client.create_bucket(Bucket=name)
    if versioning:
        client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    if key:
        client.put_object(Bucket=name, Key=key, Body=b"content")
    users = {user: server.client(user) for user in ACCESS}

    assert s3_rights.try_rights(client, users, [name]) == {name: {user: [] for user in ACCESS}}
    client.put_bucket_policy(Bucket=name, Policy=policy(name))

    assert s3_rights.try_rights(client, users, [name]) == {
        name: {user: [*ALLOWED[right]] for user, right in ACCESS.items()}
    }
    everything = s3_rights.try_rights(client, {"rackwright": client}, [name])[name]["rackwright"]
    assert everything == sorted(s3_rights._TRIALS)
    versions = client.list_object_versions(Bucket=name)
    assert [each["Key"] for each in versions.get("Versions", ())] == ([key] if key else [])
    assert not versions.get("DeleteMarkers") and not client.list_multipart_uploads(Bucket=name).get("Uploads")


def test_facts_have_the_rights_of_users_with_a_known_key(server):
    name = "tried-facts"
    server.client().create_bucket(Bucket=name)
    server.client().put_bucket_policy(Bucket=name, Policy=policy(name))
    stack = stack_with_keys(server, name, trainer=KEYS["trainer"], auditor="a-key-of-no-account")

    bucket = connect(stack, "archive").read().s3.bucket(name)

    assert bucket is not None and bucket.rights("trainer") == ALLOWED["write"]
    with pytest.raises(UnknownFact, match="the store refuses the user's key: "):
        bucket.rights("auditor")
    with pytest.raises(UnknownFact, match="the value of the secret serving_key is unknown"):
        bucket.rights("serving")
