"""The package of the registry, made of a small file in the place of the program."""

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from rackwright.errors import SetupError
from rackwright.toolchain import go, registry
from rackwright.toolchain.kubernetes.packages import write
from tests.support.log import ROOT


def test_the_version_is_that_of_the_module_and_of_the_role() -> None:
    module = f"github.com/distribution/distribution/v3 v{registry.VERSION}"
    assert module in (registry.MODULE / "go.mod").read_text()
    assert f"{module} h1:" in (registry.MODULE / "go.sum").read_text()
    assert f"v{registry.VERSION}" in registry.PROGRAM.stamps.values()
    for path in ROOT.glob("roles/registry/vars/*.yml"):
        assert yaml.safe_load(path.read_text()) == {"__registry_version": f"{registry.VERSION}-{registry.REVISION}"}


def test_other_sources_have_another_revision() -> None:
    """
    If it fails: raise REVISION, here and in the variables of the role, and write the new digest.
    """
    assert go.digest(registry.MODULE) == registry.SOURCES


def test_the_package_has_the_program_where_the_units_start_it(tmp_path: Path) -> None:
    if shutil.which("dpkg-deb") is None:
        pytest.skip("dpkg-deb is on Debian and its derivatives")
    program = tmp_path / "registry"
    program.write_bytes(b"\x7fELF")
    package = write(registry.package(program), tmp_path)

    argv = ("dpkg-deb", "--contents", str(package))
    listed = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.splitlines()
    assert [line.split()[0] for line in listed if line.endswith("./usr/bin/registry")] == ["-rwxr-xr-x"]


def test_without_go_the_error_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rackwright.toolchain.cache.directory", lambda: tmp_path)
    monkeypatch.setattr("shutil.which", lambda name, *_, **__: None if name == "go" else f"/usr/bin/{name}")
    assert registry.found_program() is None
    with pytest.raises(SetupError, match="there is no go on PATH"):
        registry.ensure(lambda text: None)
    assert [path.name for path in tmp_path.glob("registry/*")] == ["lock"]
