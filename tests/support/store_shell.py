"""The shell of the store (SeaweedFS 4.48): changes there, and all its commands by what shows their effect."""

import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from rackwright.facts.facts import Facts
from rackwright.facts.probe import object_store
from rackwright.facts.probe.isolate import isolate
from rackwright.kinds.role.observe import observe_property
from rackwright.schema.object_store import OWNER_TAG
from tests.support.our_roles import REPOSITORY
from tests.support.store_parts import READY_SECONDS, Parts, files, promised

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

READS = """
cluster.check cluster.ps cluster.raft.ps cluster.status collection.list ec.check.replication ec.scrub fs.cat
fs.cd fs.du fs.ls fs.meta.cat fs.meta.notify fs.meta.save fs.pwd fs.tree fs.verify lock mq.topic.describe
mq.topic.list s3.accesskey.list s3.anonymous.get s3.anonymous.list s3.bucket.list s3.config.show s3.group.list
s3.group.show s3.iam.export s3.serviceaccount.list s3.serviceaccount.show s3.user.list s3.user.show
s3.versions.audit sleep unlock volume.check.disk volume.fsck volume.list volume.scrub
"""
SEEN: Mapping[str, str] = {
    "object_store:rules": "fs.configure s3.bucket.quota.enforce",
    "object_store:accounts": """
        s3.accesskey.create s3.accesskey.delete s3.accesskey.rotate s3.anonymous.set s3.bucket.access s3.configure
        s3.group.add-user s3.group.create s3.group.delete s3.group.remove-user s3.iam.import s3.policy
        s3.policy.attach s3.policy.detach s3.serviceaccount.create s3.serviceaccount.delete s3.user.create
        s3.user.delete s3.user.disable s3.user.enable s3.user.provision
    """,
    "object_store:stored": "mount.configure remote.configure s3.circuitBreaker fs.mkdir",
    "object_store:buckets": """
        s3.bucket.quota s3.bucket.allowEmptyFolders s3.bucket.lifecycle.fastpath remote.mount
        remote.mount.buckets remote.unmount
    """,
    "object_store:owners": "s3.bucket.create s3tables.bucket s3tables.namespace s3tables.table s3tables.tag",
    "object_store:volumes": "volume.configure.replication volume.grow ec.encode ec.decode",
    "bucket": "s3.bucket.delete s3.bucket.lock s3.bucket.versioning",
}
"""Commands by the claim that their effect differs from."""
HIDDEN = frozenset(("s3.bucket.access", "s3.configure"))
"""Commands that the shell takes and does not list."""
BY_VERIFY = """
collection.delete ec.shard.unmount fs.log.purge fs.meta.changeVolumeId fs.meta.load fs.mv fs.rm remote.meta.sync
remote.uncache s3.lifecycle.run-shard volume.delete volume.deleteEmpty volume.mount volume.unmount volumeServer.leave
volumeServer.state s3.clean.uploads volume.tier.upload volume.tier.download volume.tier.compact
"""
"""Commands that take objects away: `tier verify` names what is lost."""
NOT_SEEN: Mapping[str, str] = {
    "they move or copy objects, and change none": """
        ec.balance ec.rebuild fs.distributeChunks fs.mergeVolumes remote.cache remote.copy.local volume.balance
        volume.copy volume.fix.replication volume.merge volume.move volume.tier.move volume.vacuum
        volumeServer.evacuate
    """,
    "they change the room or the speed of the store": "volume.mark volume.vacuum.disable volume.vacuum.enable",
    "the role starts no such part": """
        mq.balance mq.topic.compact mq.topic.configure mq.topic.truncate cluster.raft.add cluster.raft.remove
        cluster.raft.transferLeader
    """,
    "S3 compares the grants of a bucket, and not its owner": "s3.bucket.owner",
}
"""Commands whose effect no claim shows, by the reason."""


def commands() -> list[str]:
    """Return all commands that the shell lists, each as often as it has a place here."""
    names = " ".join((READS, BY_VERIFY, *SEEN.values(), *NOT_SEEN.values())).split()
    return [name for name in names if name not in HIDDEN]


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
        return Facts({"object_store": {"buffered": [], "rights": [], "settings": found}})

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
