"""The shell of the object store leaves nothing in /tmp, where another account could have put a file in its way."""

from pathlib import Path

from rackwright.facts.probe import object_store
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


def test_the_program_of_the_role_does_the_same() -> None:
    text = SETTINGS.read_text()

    assert f'"TMPDIR": "{object_store.NO_FOLDER}"' in text and text.count("subprocess.run(") == text.count("env=") == 1
