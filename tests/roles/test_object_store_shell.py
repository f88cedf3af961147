"""The shell of the store, a second way to its settings: the probe sees each change there, and the role removes it."""

import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from rackwright.endpoints.s3 import session
from rackwright.facts.facts import Facts
from rackwright.facts.probe import object_store
from rackwright.facts.probe.isolate import isolate
from rackwright.facts.view import UnknownFact
from rackwright.kinds.role.observe import observe_property
from rackwright.schema.object_store import OWNER_TAG
from tests.roles.test_object_store import READY_SECONDS, Parts, files, promised
from tests.support.our_roles import REPOSITORY

KEY = "key-of-a-stranger-1"
CHANGES: dict[str, tuple[str, ...]] = {
    "an expiry of a bucket": ("fs.configure -locationPrefix=/buckets/models/ -ttl=1m -apply",),
    "an expiry of a prefix": ("fs.configure -locationPrefix=/buckets/models/a/ -ttl=1d -apply",),
    "an expiry of everything": ("fs.configure -locationPrefix=/ -ttl=1d -apply",),
    "a collection": ("fs.configure -locationPrefix=/elsewhere/ -collection=other -apply",),
    "read only": ("fs.configure -locationPrefix=/buckets/models/ -readOnly -apply",),
    "fewer copies": ("fs.configure -locationPrefix=/buckets/models/ -replication=000 -apply",),
    "long names": ("fs.configure -locationPrefix=/buckets/ -maxFileNameLength=8 -apply",),
    "a quota": ("s3.bucket.quota -name=models -op=set -sizeMB=1",),
    "an account with admin": (
        f"s3.configure -user=mallory -access_key=mallory -secret_key={KEY} -actions=Admin -apply",
    ),
    "a key of a declared account": (f"s3.configure -user=trainer -access_key=more -secret_key={KEY} -apply",),
    "rights of everybody": ("s3.configure -user=anonymous -actions=Read:models,List:models -apply",),
    "another setting": ("fs.mkdir /etc/remote",),
}
"""Commands of the store's shell that change declared behaviour."""


class Store(Parts):
    """A store whose shell is used."""

    def shell(self, *commands: str) -> str:
        master, filer = (
            f"-{name}=127.0.0.1:{self.ports[port]}" for name, port in (("master", "9333"), ("filer", "8888"))
        )
        argv = (*self.program, "shell", master, filer)
        text = "\n".join(("lock", *commands, "unlock", ""))
        where = self.directory / "etc/seaweedfs"
        done = subprocess.run(
            argv, input=text, capture_output=True, text=True, cwd=where, check=True, env={"HOME": "/"}
        )
        assert "error" not in done.stderr, done.stderr
        return done.stdout

    def facts(self) -> Facts:
        """Return the settings as the probe reads them."""
        arguments = (f"127.0.0.1:{self.ports['9333']}", f"127.0.0.1:{self.ports['8888']}", str(self.directory / "tier"))
        found = isolate("settings", object_store.settings, *self.program, *arguments, memory=object_store.MEMORY_BYTES)
        return Facts({"object_store": {"buffered": [], "settings": found}})

    def differences(self) -> dict[str, Any]:
        """Return the observed values of claims that do not hold."""
        facts, found = self.facts(), {}
        for entry in promised().entries:
            if entry.sort == "object_store":
                claim = entry.claim(REPOSITORY)
                [(name, want)] = claim.want.items()
                value = observe_property(facts, *claim.thing.split(":"), name, claim)
                if value != want and not (hasattr(want, "values") and {*value} <= {*want.values}):
                    found[claim.thing] = value
        return found

    def mend(self) -> str:
        """Run the program with which the role removes what nobody declared, and return its output."""
        text = files(promised())["/opt/rackwright/object_store/settings.py"]
        text = re.sub(r"^WEED = .*$", f'WEED = "{self.program[0]}"', text, flags=re.MULTILINE)
        for port in ("9333", "8888"):  # the paths are those of the store, not of this test
            text = text.replace(f":{port}", f":{self.ports[port]}")
        argv, where = (sys.executable, "-c", text), self.directory / "etc/seaweedfs"
        done = subprocess.run(argv, capture_output=True, text=True, cwd=where)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Iterator[Store]:
    with pytest.MonkeyPatch.context() as patch, Store(tmp_path_factory.mktemp("store")) as running:
        patch.setattr(object_store, "CONFIGURATION", str(running.directory / "etc/seaweedfs"))
        make_bucket(running)
        yield running


def make_bucket(store: Store) -> None:
    """Make the bucket as a plan does, with its owner."""
    client = store.client("rackwright", "archive_key")
    eventually(lambda: client.create_bucket(Bucket="models"))
    tags = [{"Key": OWNER_TAG, "Value": "cold"}, {"Key": "team", "Value": "models"}]
    client.put_bucket_tagging(Bucket="models", Tagging={"TagSet": tags})


def eventually(request: Callable[[], Any]) -> Any:
    end = time.monotonic() + READY_SECONDS
    while True:
        try:
            return request()
        except Exception:
            if time.monotonic() > end:
                raise
            time.sleep(0.3)


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


def test_a_removed_account_is_refused(store):
    url = f"https://127.0.0.1:{store.ports['8333']}"
    stranger = session("us-east-1", url, str(store.directory / "authority.crt"))("mallory", KEY)
    store.shell(*CHANGES["an account with admin"])
    eventually(stranger.list_buckets)
    store.mend()

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


def test_no_secret_is_among_the_facts(store):
    store.shell(*CHANGES["a key of a declared account"])
    facts = repr(store.facts().object_store._raw)
    store.mend()

    assert "trainer: keys more, rights none" in facts
    assert "key-of-" not in facts
