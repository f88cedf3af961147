"""The sources of the plugin of pulumi-kubernetes: their pins, and the files that are made before a build."""

import json

import pytest

from rackwright.toolchain import pulumi_kubernetes
from rackwright.toolchain.pulumi_kubernetes import PROGRAM, SOURCES, VERSION, _copy, embed_schema
from rackwright.toolchain.sources import ToolUnavailable


class Go:
    """A go command that has fetched a module with this checksum."""

    def __init__(self, directory, checksum: str) -> None:
        self.answer = {"Dir": str(directory), "Sum": checksum}

    def query(self, *arguments, module):
        return json.dumps(self.answer)


def test_the_module_of_the_build_takes_the_changed_copies():
    """
    The versions are those of the pins; each copy takes the place of a module.
    """
    text = (PROGRAM.module / "go.mod").read_text()

    for place, (module, _) in SOURCES.items():
        path, _, version = module.partition("@")
        assert f"replace {path} => ./{place}" in text
        assert f"{path} {version}" in text
    assert (PROGRAM.module / "kinds.go.txt").is_file()


def test_sources_with_another_checksum_are_refused(tmp_path):
    """
    Nothing is copied.
    """
    with pytest.raises(ToolUnavailable, match="has the checksum h1:other, not h1:right"):
        _copy(Go(tmp_path, "h1:other"), "example.com/m@v1.0.0", "h1:right", tmp_path / "copy")  # type: ignore[arg-type]

    assert not (tmp_path / "copy").exists()


def test_the_embedded_schema_has_the_version_of_the_plugin(tmp_path):
    """
    Pulumi compares it with the version of the Python package.
    """
    (tmp_path / "schema.json").write_text('{"name": "kubernetes", "version": "0.0.1"}')
    (tmp_path / "terraform-mapping.json").write_text('{"a": [1, 2]}')
    embed_schema(tmp_path)

    assert json.loads((tmp_path / "schema-embed.json").read_text())["version"] == VERSION
    assert (tmp_path / "terraform-mapping-embed.json").read_text() == '{"a":[1,2]}'


def test_without_a_build_there_is_no_plugin(tmp_path, monkeypatch):
    """
    `cluster exec` then leaves PATH as it is.
    """
    monkeypatch.setattr("rackwright.toolchain.cache.directory", lambda: tmp_path)

    assert pulumi_kubernetes.built_directory() is None
