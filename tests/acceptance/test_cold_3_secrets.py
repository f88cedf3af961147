"""Line 3, secrets: the key of the account is in no file of the project, no output, and no list of arguments."""

from tests.support.acceptance import line
from tests.support.expect import need
from tests.support.log import Log
from tests.support.object_store import ACCESS_KEY, KEYS
from tests.support.store_project import STACK, store_project


@line("cold", 3, part="secrets")
def test_the_secret_key_is_nowhere(log: Log) -> str:
    """After `up`, an audit and a preview, no file and no output has the key."""
    with store_project(log.empty_directory()) as project:
        outputs = [
            project.rackwright(*command, STACK) for command in (("up", "--yes"), ("audit", "--json"), ("preview",))
        ]
        need(outputs[0].returncode == 0, outputs[0].stdout[-500:])
        texts = [project.texts(), *(each.stdout + each.stderr for each in outputs)]
        need("retention_days" in texts[0], "the state was not read")
        need(not [text for text in texts if KEYS[ACCESS_KEY] in text], "the key was written")
    return f"{sum(map(len, texts)) >> 10} KiB searched"
