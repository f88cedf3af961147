"""The shell of the object store leaves nothing in /tmp, where another account could have put a file in its way."""

import os
from pathlib import Path

import pytest

from rackwright.facts.probe import object_store
from rackwright.facts.probe.observe import ReadError
from tests.support.sources import ROOT

PROGRAM = "#!/bin/sh\ncat > /dev/null\nprintf '%s' \"${TMPDIR:-/tmp}\"\n"
SETTINGS = ROOT / "roles/object_store/templates/opt/rackwright/object_store/settings.py.j2"


def test_the_shell_gets_a_folder_that_does_not_exist(tmp_path: Path, monkeypatch) -> None:
    program = tmp_path / "weed"
    program.write_text(PROGRAM)
    program.chmod(0o700)
    monkeypatch.setattr(object_store, "CONFIGURATION", str(tmp_path))

    folder = object_store._Shell(str(program), "192.0.2.1:9333", "192.0.2.1:8888")("fs.configure")

    assert folder == object_store.NO_FOLDER and not Path(folder).exists()


@pytest.mark.parametrize(
    ("mode", "user", "reason"),
    [
        (0o757, 0, "has mode 0757: other accounts can write it"),
        (0o755, 65534, "belongs to nobody:nogroup"),
    ],
)
@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
def test_a_program_that_another_account_can_change_is_not_started(tmp_path, mode, user, reason) -> None:
    program = tmp_path / "weed"
    program.write_text(PROGRAM)
    program.chmod(mode)
    os.chown(program, user, 65534 if user else 0)

    with pytest.raises(ReadError, match=reason):
        object_store._program(f"{program} filer")


def test_the_program_of_the_role_does_the_same() -> None:
    text = SETTINGS.read_text()

    assert f'"TMPDIR": "{object_store.NO_FOLDER}"' in text and text.count("subprocess.run(") == text.count("env=") == 1


def test_the_default_retention_of_a_bucket_is_not_set_in_the_shell() -> None:
    """SeaweedFS 4.48 keeps it under names without the prefix of its other attributes, as `fs.meta.cat` shows them."""
    document = {
        "quota": "0",
        "wormEnforcedAtTsNs": "0",
        "remoteEntry": None,
        "attributes": {"ttlSec": 0},
        "extended": {
            "Lock-Default-Days": "MzY1",
            "Lock-Default-Mode": "R09WRVJOQU5DRQ==",
            "Seaweed-X-Amz-Object-Lock-Enabled": "RW5hYmxlZA==",
        },
    }
    assert [*object_store._set(document)] == []
    assert [*object_store._set({**document, "extended": {"Lock-Other": ""}, "quota": "5"})] == ["quota=5", "Lock-Other"]


def test_a_store_without_buckets_answers_with_nothing_in_their_place() -> None:
    """The first `up` of a store ended with 1, because its settings were unknown until it had a bucket."""
    assert object_store._answers("/\netc\n/\nTopology\n") == ["", "etc", "Topology"]
    assert object_store._answers("models\nbackups\n/\netc\n└── seaweedfs\n/\nTopology\n") == [
        "models\nbackups",
        "etc\n└── seaweedfs",
        "Topology",
    ]
