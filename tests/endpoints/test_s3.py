"""A bucket from its creation to its removal, on a real SeaweedFS, through the provider."""

import contextlib
import json
import re
import socket
from collections.abc import Iterator
from datetime import datetime, timedelta, tzinfo
from typing import Any

import grpc
import pytest
from botocore import auth

from rackwright.core.contract import Call
from rackwright.endpoints import open_endpoints, s3, s3_facts
from rackwright.endpoints.s3 import connect
from rackwright.errors import EndpointUnreachable
from rackwright.hosts.rollout import RolloutGate
from rackwright.kinds.bucket import BucketKind
from rackwright.provider.site import Site
from rackwright.schema.object_store import RESTORE_TEST
from rackwright.schema.rollout import Rollout
from rackwright.tiering import archive
from rackwright.tiering.bucket import Bucket, store_errors
from tests.support.object_store import KEYS, Server, store_stack
from tests.support.operations_log import in_memory
from tests.support.provider_rig import Rig, rig
from tests.support.recorded_hosts import STACK
from tests.support.toy_kind import Memory, execute

DECLARED: dict[str, Any] = {
    "store": "archive",
    "retention": {"mode": "governance", "days": 30},
    "expiry": {"earlier_days": 90},
    "access": {"trainer": "write", "auditor": "read", "serving": "read_current"},
    "tags": {"team": "models"},
}


@pytest.fixture
def buckets(server) -> Iterator[Rig]:
    """A provider of buckets on *server*."""
    stack = store_stack(STACK, server)

    def open_site(name: str, secrets: Any) -> Site:
        gate = RolloutGate(Rollout(), lambda: False)
        return Site(stack.repository, Memory(), execute, gate, in_memory(), endpoints=open_endpoints(stack))

    with rig({BucketKind.token: BucketKind()}, open_site) as made:
        made.token = BucketKind.token
        yield made


def inputs(name: str, **changes: Any) -> dict[str, Any]:
    declared = {key: value for key, value in {**DECLARED, **changes}.items() if value is not None}
    account = "000000000000"
    store = {"store": "archive", "account": account, "listing": "by_folder"}
    return {"fleet": "small", "name": name, "declared": declared, **store}


def code(server: Server, account: str | None, operation: str, **parameters: Any) -> str:
    """Return the code of the error that *operation* ends with for *account*; empty without an error."""
    client = server.client(account)
    try:
        getattr(client, operation)(**parameters)
    except client.exceptions.ClientError as refused:
        return str(refused.response["Error"]["Code"])
    return ""


def test_a_bucket_is_created_as_declared_and_a_second_run_changes_nothing(buckets, server):
    state = buckets.create(inputs("models-1"))

    assert state.id == "archive/models-1"
    assert state.outputs["claims"]["bucket:models-1"]["retention_days"] == 30
    assert buckets.diff(buckets.read(state), inputs("models-1")) == {}
    assert KEYS["rackwright"] not in json.dumps([state.inputs, state.outputs])


def test_each_function_has_its_rights_and_no_others(buckets, server):
    buckets.create(inputs("models-2"))
    where = {"Bucket": "models-2", "Key": "m"}

    answers = {
        (who, what): code(server, who, what, **where, **({"Body": b"x"} if what == "put_object" else {}))
        for what in ("put_object", "get_object", "delete_object")
        for who in ("trainer", "auditor", "serving", None)
    }

    allowed = {key for key, answer in answers.items() if not answer}
    assert allowed == {
        ("trainer", "put_object"),
        ("trainer", "get_object"),
        ("auditor", "get_object"),
        ("serving", "get_object"),
    }
    assert {answer for answer in answers.values() if answer} == {"AccessDenied"}


@pytest.mark.parametrize("key", [RESTORE_TEST, "model-1/manifest.json", "model-1/canary.json", "a/b/manifest.json"])
def test_an_account_that_writes_cannot_write_what_rackwright_trusts(buckets, server, key):
    """
    Neither as a whole, nor in parts, nor as a copy of another object.
    """
    buckets.create(inputs("models-8"))
    where = {"Bucket": "models-8", "Key": key}
    server.client().put_object(Bucket="models-8", Key="copied", Body=b"x")

    assert code(server, "trainer", "put_object", **where, Body=b"x") == "AccessDenied"
    assert code(server, "trainer", "create_multipart_upload", **where) == "AccessDenied"
    source = {"Bucket": "models-8", "Key": "copied"}
    assert code(server, "trainer", "copy_object", **where, CopySource=source) == "AccessDenied"
    assert code(server, "trainer", "put_object", Bucket="models-8", Key=f"{key}.own", Body=b"x") == ""
    assert code(server, "rackwright", "put_object", **where, Body=b"x") == ""


def test_no_account_writes_files_of_the_store_itself(buckets, server):
    """Neither as a whole, nor in parts, nor as a copy of another object."""
    buckets.create(inputs("models-10", retention=None))
    own = {"Bucket": "models-10", "Key": "own"}
    assert code(server, "trainer", "put_object", **own, Body=b"x") == ""

    for key in (
        *("m.versions", "m.versions/v_1", "m.versions//v_1", ".versions/v_1", "a/.versions/v_1"),
        *(".uploads", ".uploads/1/2", "/.uploads/1/2", "a/.uploads/1/2"),
    ):
        where = {**own, "Key": key}
        assert code(server, "trainer", "put_object", **where, Body=b"x") == "AccessDenied", key
        assert code(server, "trainer", "create_multipart_upload", **where) == "AccessDenied", key
        assert code(server, "trainer", "copy_object", **where, CopySource=own) == "AccessDenied", key


def test_versions_are_read_by_their_right_alone_and_stay_after_a_suspension(buckets, server):
    """SeaweedFS has a version of KEY as the object ``KEY.versions/v_ID`` as well, and lists that directory."""
    buckets.create(inputs("models-11", retention=None))
    client, trainer, at = server.client(), server.client("trainer"), {"Bucket": "models-11"}
    key = {**at, "Key": "a/canary.json"}
    earlier = client.put_object(**key, Body=b"earlier")["VersionId"]
    current = client.put_object(**key, Body=b"current")["VersionId"]
    file = {**at, "Key": f"{key['Key']}.versions/v_{earlier}"}

    for account in ("trainer", "auditor", "serving"):
        assert code(server, account, "get_object", **file) == "AccessDenied"
        assert code(server, account, "head_object", **file) == "403"
    assert code(server, "serving", "get_object", **key, VersionId=earlier) == "AccessDenied"
    assert server.client("auditor").get_object(**key, VersionId=earlier)["Body"].read() == b"earlier"
    assert code(server, "trainer", "copy_object", **at, Key="own", CopySource=file) == "AccessDenied"
    upload = trainer.create_multipart_upload(**at, Key="parts")["UploadId"]
    part = {**at, "Key": "parts", "UploadId": upload, "PartNumber": 1}
    assert code(server, "trainer", "upload_part_copy", **part, CopySource=file) == "AccessDenied"
    etag = trainer.upload_part(**part, Body=b"part")["ETag"]
    parts = {"Parts": [{"PartNumber": 1, "ETag": etag}]}
    trainer.complete_multipart_upload(**at, Key="parts", UploadId=upload, MultipartUpload=parts)
    assert server.client("serving").get_object(**at, Key="parts")["Body"].read() == b"part"

    client.put_bucket_versioning(**at, VersioningConfiguration={"Status": "Suspended"})
    for version in (earlier, current):
        forged = {**at, "Key": f"{key['Key']}.versions/v_{version}", "Body": b"forged"}
        assert code(server, "trainer", "put_object", **forged) == "AccessDenied"
    assert client.get_object(**key)["Body"].read() == b"current"
    assert client.get_object(**key, VersionId=earlier)["Body"].read() == b"earlier"


def test_settings_changed_by_hand_are_found_and_mended(buckets, server):
    state, client = buckets.create(inputs("models-3", retention=None)), server.client()
    client.put_bucket_versioning(Bucket="models-3", VersioningConfiguration={"Status": "Suspended"})
    client.delete_bucket_lifecycle(Bucket="models-3")
    everybody = {"Effect": "Allow", "Principal": "*", "Action": "s3:ListBucket", "Resource": "arn:aws:s3:::models-3"}
    client.put_bucket_policy(Bucket="models-3", Policy=json.dumps({"Version": "2012-10-17", "Statement": [everybody]}))
    client.put_bucket_ownership_controls(
        Bucket="models-3", OwnershipControls={"Rules": [{"ObjectOwnership": "ObjectWriter"}]}
    )
    buckets.forget()

    found = buckets.diff(buckets.read(state), inputs("models-3", retention=None))
    names = ("versioning", "earlier_days", "uploads_days", "policy", "anonymous", "ownership")
    assert sorted(found) == sorted(f'claims["bucket:models-3"].{name}' for name in names)

    mended = buckets.update(buckets.read(state), inputs("models-3", retention=None))
    buckets.forget()

    assert buckets.diff(buckets.read(mended), inputs("models-3", retention=None)) == {}


def test_a_second_rule_with_the_id_of_a_declared_one_is_found_and_removed(buckets, server):
    """The store keeps both, and deletes at the shorter age."""
    state, client = buckets.create(inputs("models-9", retention=None)), server.client()
    rules = client.get_bucket_lifecycle_configuration(Bucket="models-9")["Rules"]
    early = next(each for each in rules if each["ID"] == "rackwright-earlier")
    shorter = {**early, "NoncurrentVersionExpiration": {"NoncurrentDays": 1}}
    client.put_bucket_lifecycle_configuration(Bucket="models-9", LifecycleConfiguration={"Rules": [shorter, *rules]})
    buckets.forget()

    assert [*buckets.diff(buckets.read(state), inputs("models-9", retention=None))] == [
        'claims["bucket:models-9"].earlier_days'
    ]
    buckets.update(buckets.read(state), inputs("models-9", retention=None))
    assert client.get_bucket_lifecycle_configuration(Bucket="models-9")["Rules"] == rules


def test_objects_are_deleted_only_with_consent(buckets, server):
    open_inputs = inputs("models-4", retention=None)
    state, client = buckets.create(open_inputs), server.client()
    client.put_object(Bucket="models-4", Key="a", Body=b"1")
    client.put_object(Bucket="models-4", Key="a", Body=b"2")
    buckets.forget()

    with pytest.raises(grpc.RpcError, match="holds objects"):
        buckets.delete(state)
    consenting = buckets.update(state, inputs("models-4", retention=None, destroy="allowed"))
    buckets.delete(consenting)

    assert "models-4" not in [each["Name"] for each in client.list_buckets().get("Buckets", ())]


def test_retention_stops_the_removal(buckets, server):
    state, client = buckets.create(inputs("models-5", destroy="allowed")), server.client()
    client.put_object(Bucket="models-5", Key="kept", Body=b"1")
    buckets.forget()

    with pytest.raises(grpc.RpcError, match="the store keeps 1 objects, the first is kept"):
        buckets.delete(state)

    assert server.client().get_object(Bucket="models-5", Key="kept")["Body"].read() == b"1"


def test_a_lost_bucket_is_not_created_again(buckets, server):
    state = buckets.create(inputs("models-6"))
    server.client().delete_bucket(Bucket="models-6")
    buckets.forget()

    with pytest.raises(grpc.RpcError, match="create it again"):
        buckets.update(buckets.read(state), inputs("models-6"))


def test_a_bucket_with_objects_and_without_an_owner_needs_consent(buckets, server):
    server.client().create_bucket(Bucket="models-7")
    server.client().put_object(Bucket="models-7", Key="a", Body=b"1")
    declared = inputs("models-7", retention=None)

    with pytest.raises(grpc.RpcError, match="no tag of an owner"):
        buckets.create(declared)
    taken = buckets.create(inputs("models-7", retention=None, takeover="allowed"))

    assert taken.outputs["claims"]["bucket:models-7"]["owner"] == "small"


def test_a_bucket_of_another_fleet_is_refused(buckets):
    buckets.create(inputs("models-8"))

    with pytest.raises(grpc.RpcError, match="belongs to the fleet small"):
        buckets.create({**inputs("models-8"), "fleet": "other"})


def test_wrong_credentials_are_named(server):
    stack = store_stack(STACK, server)
    wrong = stack.with_secrets({"archive_key": "another-key-of-nobody"})

    with pytest.raises(EndpointUnreachable, match="the store refuses the credentials"):
        connect(wrong, "archive").read()


@pytest.fixture(params=[20 * 60, -20 * 60], ids=["ahead", "behind"])
def clock(request, monkeypatch) -> int:
    """The seconds by which the clock of this computer is ahead, for signatures and for our own comparison."""
    now, moved = auth.get_current_datetime, timedelta(seconds=request.param)

    class Moved(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:
            return datetime.now(tz) + moved

    monkeypatch.setattr(auth, "get_current_datetime", lambda **options: now(**options) + moved)
    monkeypatch.setattr(s3_facts, "datetime", Moved)
    return int(request.param)


def test_a_wrong_clock_is_named_with_its_difference(server, clock):
    with pytest.raises(EndpointUnreachable) as refused:
        connect(store_stack(STACK, server), "archive").read()

    [diagnostic] = refused.value.diagnostics
    by = "(20 min [01] s|19 min 5[89] s)"
    assert re.search(f"the server's clock is {by} {'behind' if clock > 0 else 'ahead of'} ", diagnostic.problem)
    assert diagnostic.id == "store-clock"


def test_a_wrong_clock_is_named_by_a_change_and_by_a_move(server, clock):
    client = connect(store_stack(STACK, server), "archive")
    bucket = Bucket("models", client.signed)

    with pytest.raises(EndpointUnreachable, match="the server's clock is"):
        client.call("archive/models", Call("create it", "create_bucket", {"Bucket": "models"}))
    with pytest.raises(EndpointUnreachable, match="the server's clock is"), store_errors(bucket):
        client.signed.head_object(Bucket="models", Key="any")  # the answer has no code
    for look in (archive.list_archives, lambda bucket: archive.load_manifest(bucket, "any")):
        with pytest.raises(EndpointUnreachable, match="the server's clock is"):
            look(bucket)


def test_a_store_that_does_not_answer_is_unreachable(server):
    stack = store_stack(STACK, Server("http://127.0.0.1:9"))

    with pytest.raises(EndpointUnreachable, match=r"no answer from http://127.0.0.1:9"):
        connect(stack, "archive").read()


def test_a_store_that_accepts_and_does_not_answer_is_given_up_at_the_first_request(monkeypatch):
    monkeypatch.setattr(s3, "FIRST_SECONDS", 0.1)
    monkeypatch.setattr(s3, "ANSWER_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(EndpointUnreachable, match="no answer from"):
            connect(store_stack(STACK, Server(url)), "archive").read()
        silent.settimeout(0)
        accepted = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                silent.accept()[0].close()
                accepted += 1

    assert accepted == s3.FIRST_ATTEMPTS < s3.ATTEMPTS


def test_an_unset_secret_leaves_the_store_unknown(server):
    with pytest.raises(EndpointUnreachable, match="the value of the secret archive_key is unknown"):
        connect(store_stack(STACK, server).without_secrets, "archive")
