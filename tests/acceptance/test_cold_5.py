"""Line 5: settings of a bucket that are changed by hand are found in preview and audit, and mended by `up`."""

import json

from tests.support.acceptance import line
from tests.support.expect import need
from tests.support.log import Log
from tests.support.store_project import BUCKET, STACK, store_project

NAMES = ("versioning", "earlier_days", "uploads_days", "policy", "anonymous")
CHANGED = {f"bucket:{BUCKET}.{name}" for name in NAMES}
EVERYBODY = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Principal": "*", "Action": "s3:ListBucket", "Resource": f"arn:aws:s3:::{BUCKET}"},
    ],
}


@line("cold", 5)
def test_settings_changed_by_hand_are_found_and_mended(log: Log) -> str:
    """Versioning is suspended, the lifecycle removed, and the policy widened, on a SeaweedFS on loopback."""
    with store_project(log.empty_directory()) as project:
        made = project.rackwright("up", STACK, "--yes")
        need(made.returncode == 0, made.stdout[-500:] + made.stderr[-500:])
        need(project.rackwright("preview", STACK).returncode == 0, "a second run would change something")
        need(not (left := project.differing()), f"after `up` differ {sorted(left)}")
        log("changing settings by hand")
        client = project.server.client()
        client.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Suspended"})
        client.delete_bucket_lifecycle(Bucket=BUCKET)
        client.put_bucket_policy(Bucket=BUCKET, Policy=json.dumps(EVERYBODY))
        found = project.differing()
        need(found == CHANGED, f"the audit found {sorted(found)}")
        preview = project.rackwright("preview", STACK)
        need(preview.returncode == 1 and f"archive/{BUCKET}: update, 3 steps" in preview.stdout, preview.stdout)
        mended = project.rackwright("up", STACK, "--yes")
        need(mended.returncode == 0, mended.stdout[-500:] + mended.stderr[-500:])
        need(not (left := project.differing()), f"left {sorted(left)}")
    return f"{len(CHANGED)} properties found and mended by 3 requests"
