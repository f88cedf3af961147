"""A salt that a command makes is named: in a copy of a project it is a second one."""

import pytest

from rackwright.cli import project
from tests.support.stack_settings import configure, new_project

FLEET = "fleet: life\nhosts:\n  alpha: {address: 192.0.2.1, os: debian-12, identity: {serial: S}}\n"


@pytest.mark.parametrize(("target", "warned"), [("rack", True), ("twin:lab", False)])
def test_a_new_salt_of_a_real_rack_is_named_once(tmp_path, monkeypatch, capsys, target, warned):
    root = new_project(tmp_path, monkeypatch, {"life.yaml": FLEET})
    (root / "Pulumi.yaml").write_text("name: x\nruntime: python\n")
    configure(root, "lab", "life.yaml", target)

    project.stack("lab")
    text = capsys.readouterr().err
    assert ("salts/life" in text, "Copy the file here" in text) == (warned, warned)
    project.stack("lab")
    assert capsys.readouterr().err == ""


def test_a_copied_project_without_its_salt_says_so(tmp_path, monkeypatch, capsys):
    root = new_project(tmp_path, monkeypatch, {"life.yaml": FLEET})
    (root / "Pulumi.yaml").write_text("name: x\nruntime: python\n")
    configure(root, "lab", "life.yaml", "rack")
    project.stack("lab")
    (root / ".rackwright/salts/life").unlink()
    capsys.readouterr()

    project.stack("lab")
    assert "one such file for each fleet" in capsys.readouterr().err
