"""Each YAML block of the documentation is a valid part of a fleet, a stack's settings, or a named other format."""

import json
import re
import zipfile
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from cryptography import x509

from rackwright import locations
from rackwright.cli.ci_files import ProjectStack, ci_files
from rackwright.cli.init import STACKS, Example, project_files
from rackwright.cli.packages import Packages
from rackwright.fleet.load import schema
from rackwright.fleet.source import read
from rackwright.stack import load_stack, settings
from rackwright.stack.setting_table import SETTINGS
from tests.reference.examples import without_required
from tests.support import pages
from tests.support.log import ROOT
from tests.support.our_roles import ROLES
from tests.support.yaml_blocks import blocks
from tests.test_docs import parse

OTHERS = {"argument_specs:": "Ansible's specification of arguments", "claims:": "the claims of a role"}
"""First lines of blocks in other formats, with the format."""


WHOLE = without_required(schema(ROLES))
PARTS = {"fleet": WHOLE, **{name: {"$ref": f"#/$defs/{name}"} for name in WHOLE["$defs"]}}


def errors(value: Any) -> list[str]:
    """Return the errors of *value* as a part of a fleet, a role, or the variables of a role; none if it is one."""
    if not isinstance(value, dict):
        return ["it is no mapping"]
    names = tuple(ROLES)
    as_roles = [{"roles": value}, *({"roles": {name: value}} for name in names)]
    if not any(key in PARTS["fleet"].get("properties", ()) for key in value):
        for each in as_roles:
            if not _part_errors(each):
                return []
    return _part_errors(value)


def _part_errors(value: dict[str, Any]) -> list[str]:
    best: list[str] = ["it is no mapping"]
    for name, part in PARTS.items():
        document = {**part, "$defs": WHOLE["$defs"]}
        if not isinstance(value, dict) or not _has_keys(document, value):
            continue
        wrong = _validator(document).iter_errors(value)
        found = [f"{name}: {'.'.join(map(str, each.path))}: {each.message[:200]}" for each in wrong]
        if not found:
            return []
        best = found if best == ["it is no mapping"] or len(found) < len(best) else best
    return best


def _validator(document: Any) -> Any:
    return jsonschema.Draft202012Validator(document)


def _has_keys(document: Any, value: dict[str, Any]) -> bool:
    """Return whether *document* describes an object with all keys of *value*."""
    if "$ref" in document:
        document = WHOLE["$defs"][document["$ref"].rpartition("/")[2]]
    return set(value) <= set(document.get("properties", ()))


def settings_errors(config: Any) -> list[str]:
    known = {f"rackwright:{name}" for name in SETTINGS}
    return [f"no setting {key}" for key in config if str(key).startswith("rackwright:") and key not in known]


CASES = [(page, number, block) for page in pages.PAGES for number, block in enumerate(blocks(page))]


@pytest.mark.parametrize(
    ("page", "block"),
    [(page, block) for page, _, block in CASES],
    ids=[f"{page.relative_to(ROOT)}[{number}]" for page, number, _ in CASES],
)
def test_each_block_is_a_valid_part(page: Path, block: str, tmp_path: Path) -> None:
    first = block.splitlines()[0]
    if first in OTHERS:
        return
    file = tmp_path / "block.yaml"
    file.write_text(re.sub(r"\{…\}", "{}", block))
    value = read(file).data
    if isinstance(value, dict) and set(value) <= {"config", "secretsprovider", "encryptionsalt"}:
        assert settings_errors(value["config"]) == []
    else:
        assert errors(value) == [], block


@pytest.mark.parametrize(
    "block",
    [
        "hosts: {gpu-01: {adress: 10.0.0.1}}",
        "hosts: {gpu-01: {tiers: {hot: {level: raid11}}}}",
        "hosts: {gpu-01: {drives: [{serial: A, size: 3.84}]}}",
        "roles: {base: {time_zone: Europe/Zurich}}",
        "base: {time_zone: Europe/Zurich}",
        "runs: {a: {recipe: lora, hosts: a}}",
        "servers: {a: {vlm: {}}}",
        "config: {rackwright:container: [a]}",
        "anything: 1",
    ],
)
def test_a_wrong_block_is_found(block: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        test_each_block_is_a_valid_part(tmp_path, block, tmp_path)


def test_there_are_blocks_of_each_sort() -> None:
    assert len(CASES) > 80
    assert {page.parent.name for page, _, _ in CASES} >= {"guides", "roles"}


def test_each_setting_of_the_code_is_in_the_reference() -> None:
    source = "".join(path.read_text() for path in (ROOT / "rackwright").rglob("*.py"))
    used = set(re.findall(r"\"rackwright:([a-z_]+)\"", source)) | {*settings.SETTINGS}
    kinds = {"containers", "without", "environments", "mirrors", "workloads"}
    assert used == {*SETTINGS}
    assert {name for name, each in SETTINGS.items() if each.is_virtual_only} == kinds


WRITTEN = [
    (example, python) for example in Example for python in (False, True) if example is Example.rack or not python
]


@pytest.mark.parametrize(("example", "python"), WRITTEN)
def test_each_file_that_init_writes_is_valid(example: Example, python: bool, tmp_path: Path) -> None:
    """Fleets and settings are loaded, texts for programs are parsed, and the commands of the README exist."""
    stacks = [ProjectStack(name) for name in STACKS[example]]
    files = {**project_files("demo", example, python), **ci_files(Packages("", "a.whl", b""), stacks)}
    for name, content in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    (tmp_path / ".rackwright/models").mkdir(parents=True)
    checked = {"requirements.txt", "packages/a.whl", ".gitignore"}  # of `make wheel`, and a list of patterns
    for name in locations.stack_names(tmp_path):
        loaded = load_stack(name, tmp_path)
        settings = read(tmp_path / f"stacks/Pulumi.{name}.yaml").data
        assert settings_errors(settings["config"]) == []
        checked |= {f"stacks/Pulumi.{name}.yaml", str(loaded.fleet_file.resolve().relative_to(tmp_path.resolve()))}
        checked.add(f"stacks/{settings['config']['rackwright:fleet']}")
    for name in files:
        path = tmp_path / name
        if name.endswith(".json"):
            json.loads(path.read_text())
        elif name.endswith(".py"):
            compile(path.read_text(), name, "exec")
        elif name.endswith((".yaml", ".yml")) and name not in checked:
            assert yaml.safe_load(path.read_text())
        elif name.endswith(".pem"):
            assert x509.load_pem_x509_certificates(path.read_bytes())
        elif name.endswith(".npz"):
            assert len(zipfile.ZipFile(path).namelist()) == 2
        elif Path(name).name == "README.md":
            for words in pages.pasted(path):
                parse(words)
        else:
            continue
        checked.add(name)
    assert checked == {*files}
