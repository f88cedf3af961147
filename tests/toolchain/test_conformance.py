"""Kubernetes' conformance tests: the pins of their sources, their build, and the images of their pods."""

import io
import ssl
import stat
import tarfile
from pathlib import Path

import pytest

from rackwright.errors import SetupError
from rackwright.toolchain import conformance, go
from rackwright.toolchain.conformance import pod_images
from rackwright.toolchain.kubernetes import pins

BUSYBOX = "#!/bin/sh\nprintf 'busybox\\nsh\\ncat\\nnc\\n'\n"
"""A program that lists the commands of a small busybox."""


def test_the_tests_are_those_of_the_version_of_the_cluster() -> None:
    pin = f"k8s.io/kubernetes v{pins.KUBERNETES}"
    assert pin in (conformance.MODULE / "go.mod").read_text()
    assert f"{pin} h1:" in (conformance.MODULE / "go.sum").read_text()
    assert f"v{pins.KUBERNETES}" in conformance.TESTS.stamps.values()


def test_tests_are_compiled_and_not_run(tmp_path: Path) -> None:
    """go writes the program of the tests into the directory of the build, as it does with other programs."""
    command = _program(tmp_path / "go", '#!/bin/sh\nfor word; do echo "$word"; done > words\n')
    module = tmp_path / "module"
    module.mkdir()
    builder = go.Go(str(command), tmp_path / "log", lambda text: None)
    for tests, action in ((True, ["test", "-c", "-vet=off"]), (False, ["build", "-v"])):
        builder.build(go.Programs(module, ("example.com/e2e",), tests=tests), tmp_path / "out")
        words = (module / "words").read_text().splitlines()
        assert words[: len(action)] == action
        assert words[-2:] == [f"-o={tmp_path / 'out'}/", "example.com/e2e"]


def test_images_have_the_commands_that_debian_lacks(tmp_path: Path) -> None:
    """cat is Debian's, nc the one of netcat-openbsd, and sh of agnhost that of busybox."""
    agnhost, busybox = pod_images.of_tests(tmp_path / "agnhost", _debian(tmp_path, BUSYBOX), tmp_path)

    links = _links(agnhost.layers[-1])
    assert links["usr/local/bin/sh"] == "/bin/busybox"
    assert links["usr/local/bin/nc"] == "/bin/nc.openbsd"
    assert links["agnhost-2"] == "agnhost"
    assert "usr/local/bin/cat" not in links
    assert (agnhost.entrypoint, agnhost.command) == (("/agnhost",), ("pause",))
    assert _links(busybox.layers[-1]) == {"bin/sh": "busybox", "bin/cat": "busybox", "bin/nc": "busybox"}
    assert [path.read_text() for path in busybox.programs] == [BUSYBOX]


def test_agnhost_has_a_certificate_for_its_servers_of_https(tmp_path: Path) -> None:
    agnhost, _ = pod_images.of_tests(tmp_path / "agnhost", _debian(tmp_path, BUSYBOX), tmp_path)
    with tarfile.open(agnhost.layers[-1]) as layer:
        layer.extractall(tmp_path / "image", ["localhost.crt", "localhost.key"], filter="data")

    ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(
        tmp_path / "image" / "localhost.crt", tmp_path / "image" / "localhost.key"
    )


def test_a_layer_has_modes_and_is_the_same_each_time(tmp_path: Path) -> None:
    layer = pod_images.Layer({"etc/passwd": "root:x:0\n"}, {"bin/sh": "busybox"}, {"tmp": 0o1777})
    one, other = (pod_images.write_layer(layer, tmp_path / name) for name in ("one.tar", "other.tar"))

    assert one.read_bytes() == other.read_bytes()
    with tarfile.open(one) as archive:
        members = {member.name: member for member in archive}
        text = archive.extractfile("etc/passwd")
        assert text is not None and text.read() == b"root:x:0\n"
    assert members["tmp"].isdir() and members["tmp"].mode == 0o1777
    assert members["etc/passwd"].mode == 0o644
    assert {(member.uid, member.mtime) for member in members.values()} == {(0, 0)}


def test_a_layer_without_busybox_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="the Debian packages of the images have no busybox"):
        pod_images.of_tests(tmp_path / "agnhost", _debian(tmp_path, None), tmp_path)


def _debian(directory: Path, busybox: str | None) -> Path:
    path = directory / "debian.tar"
    texts = {"./bin/cat": "cat", "./usr/share/doc/sh": "", **({"./bin/busybox": busybox} if busybox else {})}
    with tarfile.open(path, "w") as archive:
        for name, text in texts.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    return path


def _links(layer: Path) -> dict[str, str]:
    with tarfile.open(layer) as archive:
        return {member.name: member.linkname for member in archive if member.issym()}


def _program(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path
