"""Line 1: an object store on two hosts of the twin takes a version of a model, and gives it to another host."""

import hashlib
import json
import os

from tests.support.acceptance import line
from tests.support.expect import need
from tests.support.lab import format_claims
from tests.support.log import Log
from tests.support.store_lab import BUCKETS, DISKS, GATEWAY, STACK, USER, StoreLab, store_lab

MODEL, VERSION = "models", "chat-v1"
PLACED = f"{USER}.models.{VERSION}"
"""Name of the archive that the placement of the fleet makes of it."""
FILES = {"config.json": b"{}", "shards/1.bin": os.urandom(20 << 20), "shards/2.bin": os.urandom(1000)}


@line("cold", 1)
def test_a_version_goes_to_the_store_and_comes_back_to_another_host(log: Log) -> str:
    """`up` makes the store and its buckets; a version is archived, deleted, and restored; nothing differs."""
    with store_lab(log) as lab:
        need(not (left := lab.differing()), f"after `up` differ {format_claims(left)}")
        client = lab.client()
        names = {each["Name"] for each in client.list_buckets()["Buckets"]}
        need(names == {*BUCKETS}, f"the store has the buckets {sorted(names)}")
        directory = lab.directory / VERSION
        for path, content in FILES.items():
            (directory / path).parent.mkdir(parents=True, exist_ok=True)
            (directory / path).write_bytes(content)
        log("archiving the version")
        lab.rackwright("tier", "move", STACK, str(directory), MODEL, "--yes", status=0)
        need(not directory.exists(), "the directory is still there")
        target = f"/srv/warm/models/{VERSION}"
        log(f"restoring it on {USER}")
        lab.rackwright("tier", "restore", STACK, MODEL, VERSION, "--to", f"{USER}:{target}", status=0)
        _need_content(lab, target)
        log("placing it as declared, and restoring it from there")
        lab.rackwright("tier", "plan", STACK, "--json", status=0)
        result = json.loads(lab.rackwright("tier", "move", STACK, "--yes", "--json", status=0).stdout)
        need([each["target"] for each in result["moved"]] == [PLACED], f"moved {result}")
        need(lab.ssh(USER, f"ls {target}", status=None) == "", f"{USER} has still files in {target}")
        lab.rackwright("tier", "restore", STACK, "backups", PLACED, "--to", f"{USER}:{target}", status=0)
        _need_content(lab, target)
        need(not (left := lab.differing()), f"in the end differ {format_claims(left)}")
    return f"{len(FILES)} files went to {GATEWAY} and {DISKS}, and from there to {USER}"


def _need_content(lab: StoreLab, directory: str) -> None:
    """Require that *directory* of the host has the files as they were archived."""
    lines = lab.ssh(USER, f"cd {directory} && find . -type f | sort | xargs sha256sum").splitlines()
    wanted = [f"{hashlib.sha256(content).hexdigest()}  ./{path}" for path, content in sorted(FILES.items())]
    need(lines == wanted, f"{USER} has {lines}")
