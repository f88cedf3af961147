"""The guide about masking, as pasted, with the real pulumi and a key of a stack."""

import re
from pathlib import Path

import pytest

from tests.support.log import ROOT
from tests.support.pages import blocks, outputs
from tests.support.pasted import paste

PAGE = ROOT / "docs/guides/mask.md"
pytestmark = pytest.mark.pulumi


def test_the_guide_works_as_pasted(tmp_path: Path) -> None:
    folder = tmp_path / "rack"
    assert paste(tmp_path, "rackwright init rack").returncode == 0
    (folder / "stacks/Pulumi.rack-01.yaml").write_text(
        "config: {rackwright:fleet: rack.yaml, rackwright:target: twin:rack-01}\n"
    )
    # these tests run in an environment that has the libraries
    commands = [block for block in blocks(PAGE.read_text()) if "pip install" not in block]
    done = paste(folder, "set -e\n" + "".join(commands))

    assert done.returncode == 0, done.stderr
    for line in outputs(PAGE.read_text()):
        assert line in done.stdout
    masked = (folder / "masked.jsonl").read_text()
    assert not re.search("王小明|Anna|1990-|110101|１３８|anna@|MRN", masked) and masked.count("patient_id") == 2
    everything = "".join(
        path.read_text(errors="ignore")
        for path in folder.rglob("*")
        if path.is_file() and path.stat().st_size < 1 << 20
    )
    key = paste(
        folder, 'eval "$(rackwright env)" && pulumi config get --stack rack-01 --path rackwright:secrets.masking_key'
    )
    assert len(key.stdout.strip()) == 64 and key.stdout.strip() not in everything


def test_a_stack_without_the_key_is_refused_with_the_command_that_sets_it(tmp_path: Path) -> None:
    assert paste(tmp_path, "rackwright init rack").returncode == 0
    (tmp_path / "rack/p.yaml").write_text("policy: p\nkey: {secret: masking_key}\ncolumns: {id: {rule: drop}}\n")
    (tmp_path / "rack/raw.csv").write_text("id\n1\n")
    done = paste(tmp_path / "rack", "rackwright mask p.yaml raw.csv --to masked.csv --stack lab")

    assert done.returncode == 2 and "secret masking_key: the stack lab has no value of it" in done.stderr
    assert "Run `rackwright secret set lab masking_key --generate`" in done.stderr


def test_the_letters_of_the_hospital_are_masked_as_its_tutorial_pastes(tmp_path: Path) -> None:
    page = (ROOT / "docs/tutorials/a-hospital.md").read_text()
    section = re.sub(r"(?s)^.*\n(## Mask the letters\n.*?)\n## .*$", r"\1", page)
    assert paste(tmp_path, "rackwright init rack --example hospital").returncode == 0
    done = paste(tmp_path / "rack", "set -e\n" + "".join(blocks(section)))

    assert done.returncode == 0, done.stderr
    for line in outputs(section):
        assert line in done.stdout
    assert not re.search("Anna|MRN|1234567", (tmp_path / "rack/letters.jsonl").read_text())
