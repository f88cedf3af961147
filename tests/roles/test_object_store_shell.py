"""The shell of the store, a second way to its settings: the probe sees each change there, and the role removes it."""

import re
from collections.abc import Iterator

import pytest

from rackwright.endpoints.s3 import session
from rackwright.facts.probe import object_store
from rackwright.facts.view import UnknownFact
from rackwright.kinds.role.entries.services import STORE_PROPERTIES
from rackwright.schema.object_store import OWNER_TAG
from tests.support import store_shell
from tests.support.store_shell import CHANGES, KEY, Store, eventually, make_bucket


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Iterator[Store]:
    with pytest.MonkeyPatch.context() as patch, Store(tmp_path_factory.mktemp("store")) as running:
        patch.setattr(object_store, "CONFIGURATION", str(running.directory / "etc/seaweedfs"))
        assert eventually(running.differences) == {}, "a store without buckets"
        make_bucket(running)
        yield running


def test_a_store_as_the_role_makes_it_differs_in_nothing(store):
    client = store.client("rackwright", "archive_key")
    rule = {
        "ID": "a",
        "Status": "Enabled",
        "Filter": {"Prefix": ""},
        "NoncurrentVersionExpiration": {"NoncurrentDays": 30},
    }
    client.put_bucket_lifecycle_configuration(Bucket="models", LifecycleConfiguration={"Rules": [rule]})
    client.put_bucket_versioning(Bucket="models", VersioningConfiguration={"Status": "Enabled"})
    client.put_object(Bucket="models", Key="a/m", Body=b"weights")

    assert store.differences() == {}
    [bucket] = store.facts().object_store.settings.buckets.values()
    assert bucket.tags == {OWNER_TAG: "cold", "team": "models"}
    assert store.mend() == ""


def test_changes_in_the_shell_are_differences_that_the_role_removes(store):
    """The acceptance line takes each change by itself."""
    for commands in CHANGES.values():
        store.shell(*commands)

    different = store.differences()
    assert {*different} == {f"object_store:{aspect}" for aspect in ("rules", "accounts", "stored", "buckets")}
    assert "/buckets/models/ readOnly=True replication=000 ttl=1m" in " ".join(different["object_store:rules"])
    assert different["object_store:buckets"] == ("models: quota=1048576",)
    assert KEY not in repr(different)
    assert store.mend().startswith("changed")
    assert store.differences() == {}


@pytest.mark.parametrize("time", [{"Mode": "GOVERNANCE", "Days": 30}, {"Mode": "COMPLIANCE", "Years": 1}])
def test_a_default_retention_is_no_setting_of_the_shell(store, time):
    """S3 shows it, and the kind of buckets compares it."""
    client = store.client("rackwright", "archive_key")
    name = f"retained-{time['Mode'].lower()}"
    client.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
    client.put_bucket_tagging(Bucket=name, Tagging={"TagSet": [{"Key": OWNER_TAG, "Value": "cold"}]})
    lock = {"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": time}}
    client.put_object_lock_configuration(Bucket=name, ObjectLockConfiguration=lock)

    assert store.differences() == {}
    client.put_object_lock_configuration(Bucket=name, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled"})
    assert store.differences() == {}
    client.delete_bucket(Bucket=name)


def test_a_removed_account_is_refused(store):
    url = f"https://127.0.0.1:{store.ports['8333']}"
    stranger = session("us-east-1", url, str(store.directory / "authority.crt"))("mallory", KEY)
    store.shell(*CHANGES["an account with admin"])
    eventually(stranger.list_buckets)
    assert "fs.rm -rf /etc/" in store.mend(), "the role restarts the part that speaks S3"
    store.stop("s3")
    store.start("s3")

    def refused() -> None:
        with pytest.raises(stranger.exceptions.ClientError, match="InvalidAccessKeyId"):
            stranger.list_buckets()

    eventually(refused)


def test_a_bucket_without_an_owner_is_named_until_it_has_one(store):
    store.shell("s3.bucket.create -name=other")
    assert store.differences() == {"object_store:owners": ("other",)}
    assert store.mend() == ""

    tag = {"TagSet": [{"Key": OWNER_TAG, "Value": "another fleet"}]}
    store.client("rackwright", "archive_key").put_bucket_tagging(Bucket="other", Tagging=tag)
    assert store.differences() == {}


def test_volumes_that_expire_are_named_after_their_rule_is_gone(store):
    store.shell(*CHANGES["an expiry of a bucket"])
    eventually(lambda: store.client("rackwright", "archive_key").put_object(Bucket="models", Key="short", Body=b"w"))
    store.mend()

    found = store.differences()
    assert [*found] == ["object_store:volumes"]
    assert "copies 000, expiry 1m of models" in found["object_store:volumes"]


def test_a_store_that_does_not_answer_is_unknown(store):
    store.stop("filer")
    try:
        with pytest.raises(UnknownFact):
            store.differences()
    finally:
        store.start("filer")


def test_each_command_of_the_shell_is_seen_or_listed_as_not_seen(store):
    """A new version of the store with another command fails here, until the table says what shows its effect."""
    printed = re.findall(r"^  (\S+) ", store.shell("help"), re.MULTILINE)
    claims = {f"object_store:{aspect}" for aspect in STORE_PROPERTIES} | {"bucket"}

    assert sorted(store_shell.commands()) == sorted(printed)
    assert {*store_shell.SEEN} <= claims


def test_no_secret_is_among_the_facts(store):
    store.shell(*CHANGES["a key of a declared account"])
    facts = repr(store.facts().object_store._raw)
    store.mend()

    assert "trainer: keys more, rights none" in facts
    assert "key-of-" not in facts
