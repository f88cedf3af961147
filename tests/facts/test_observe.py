"""How the probe reads what other accounts than root may write, and that it reads such places in no other way."""

import ast
import contextlib
import os
from pathlib import Path

import pytest

from rackwright.facts import probe
from rackwright.facts.probe import observe
from rackwright.facts.probe.observe import ReadError, list_untrusted, open_untrusted, read_untrusted

ACCOUNTS = {"runs", "tracking"}
"""The modules that read directories of accounts without rights."""
OF_ROOT = {
    "block", "superblocks", "signature_check", "kernel", "elf", "network", "vendors", "gpus", "system", "isolate",
    "servers", "archives", "packaged", "processes", "digest_cache", "log_chain", "log_segments", "trials", "loads",
    "file_integrity", "file_walk", "dpkg_lists", "generated_files", "object_store",
    "package_database", "packet_paths", "bpf_programs", "service_processes", "storage_behaviour",
    "python_environments",
}  # fmt: skip
"""The modules that open files by themselves: devices, /proc, /sys, and what root alone may write."""


def test_a_regular_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").write_bytes(b"content")

    assert read_untrusted(str(tmp_path), "a/b") == b"content"
    assert read_untrusted(str(tmp_path), "a/b", limit=3, tail=True) == b"ent"


def test_a_file_of_the_kernel_without_a_size_is_read() -> None:
    assert Path("/proc/sys/kernel/ostype").stat().st_size == 0
    assert read_untrusted("/proc/sys/kernel", "ostype") == b"Linux\n"


@pytest.mark.parametrize("size", [0, 1, 4096, 1 << 20])
def test_a_file_is_read_whole(tmp_path: Path, size: int) -> None:
    content = os.urandom(size)
    (tmp_path / "file").write_bytes(content)

    assert read_untrusted(str(tmp_path), "file") == content


def test_a_missing_file_is_reported_as_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_untrusted(str(tmp_path), "a/b")
    assert list_untrusted(str(tmp_path), "none") == []


def test_a_fifo_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "state")

    with pytest.raises(ReadError, match="no regular file"):
        read_untrusted(str(tmp_path), "state")


@pytest.mark.parametrize("target", ["/dev/zero", "/etc/passwd", "missing"])
def test_a_link_is_not_followed(tmp_path: Path, target: str) -> None:
    (tmp_path / "state").symlink_to(target)

    with pytest.raises(ReadError, match="links are not followed"):
        read_untrusted(str(tmp_path), "state")


def test_a_link_between_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "own").symlink_to("/etc")

    with pytest.raises(ReadError, match="links are not followed"):
        read_untrusted(str(tmp_path), "own/passwd")
    with pytest.raises(ReadError, match="links are not followed"):
        list_untrusted(str(tmp_path), "own")


def test_a_larger_file_is_refused_before_it_takes_memory(tmp_path: Path) -> None:
    with (tmp_path / "state").open("wb") as file:
        file.truncate(1 << 40)

    with pytest.raises(ReadError, match="larger than 1048576 bytes"):
        read_untrusted(str(tmp_path), "state")


def test_a_directory_with_more_names_than_the_probe_takes_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(observe, "UNTRUSTED_NAMES", 2)
    for name in "abc":
        (tmp_path / name).touch()

    with pytest.raises(ReadError, match="more than 2 entries"):
        list_untrusted(str(tmp_path))


def descriptors() -> int:
    return len([*Path("/proc/self/fd").iterdir()])


def test_no_descriptor_stays_open(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to("fifo")
    (tmp_path / "file").touch()
    before = descriptors()
    for name in ("fifo", "link", "file", "none", "file/x"):
        for read in (read_untrusted, list_untrusted):
            with contextlib.suppress(ReadError, FileNotFoundError):
                read(str(tmp_path), name)
    os.close(open_untrusted(str(tmp_path), "file"))

    assert descriptors() == before


def test_no_program_of_the_probe_gets_a_place_of_the_caller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An account that may only probe has a directory of its own as the current one; kubectl finds ./.kube there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))

    assert observe.run_tool("pwd") == "/\n"
    seen = dict(line.split("=", 1) for line in observe.run_tool("env").splitlines())
    assert seen == {**observe.ENVIRONMENT, "PWD": "/"} or seen == observe.ENVIRONMENT
    # kubectl looks for .kube/config there, and ends with an error unless that does not exist
    with pytest.raises(FileNotFoundError):
        (Path(seen["HOME"]) / ".kube/config").stat()
    with pytest.raises(FileNotFoundError):
        Path(seen["HOME"]).mkdir()
    assert seen["KUBECACHEDIR"].startswith(f"{seen['HOME']}/")


@pytest.mark.parametrize("stream", ["", ">&2"])
def test_a_program_that_prints_without_end_takes_no_memory_without_end(stream: str) -> None:
    with pytest.raises(observe.OutputTooLarge, match="more than 32 MiB"):
        observe.run_tool("sh", "-c", f"exec cat /dev/zero {stream}")


def test_a_program_that_closes_its_output_and_stays_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observe, "TOOL_SECONDS", 0.3)
    for text in ("exec sleep 60", "exec >&- 2>&-; exec sleep 60"):
        with pytest.raises(observe.ReadError, match="did not end within"):
            observe.run_tool("sh", "-c", text)


def test_each_program_of_the_probe_is_started_with_a_place_and_an_environment() -> None:
    calls = [
        (name, node.lineno, {keyword.arg for keyword in node.keywords})
        for name, source in probe.modules()
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) in ("subprocess.run", "subprocess.Popen", "subprocess.check_output")
    ]

    assert len(calls) >= 4
    assert [call for call in calls if not {"cwd", "env"} <= call[2]] == []


def test_modules_about_accounts_open_no_file_by_themselves() -> None:
    """
    A module that reads files is about root's own alone, and named here; whatever else is read goes through one helper.
    """
    opening = set()
    for name, source in probe.modules():
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("open", "os.open", "gzip.open", "lzma.open"):
                opening.add(name.rpartition(".")[2])

    assert opening <= {"observe", *OF_ROOT}
    assert not opening & ACCOUNTS
