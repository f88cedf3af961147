"""The rule over our source that programs on the GPUs open files of others as regular files.

A FIFO in the place of a file makes the reader wait for ever, and a device has no end. The libraries that open files of
weights by themselves come after a reader of ours.
"""

import ast
from collections.abc import Iterator

import pytest

from tests.support.sources import ROOT

READER = "workloads/foreign.py"
FILES = {
    "workloads/catalogue/read.py": "a file of the package",
    "workloads/checkpoint/disk.py": "files that it opens to write",
    "workloads/checkpoint/mover.py": "a file that it has written itself, in a temporary directory",
    "workloads/config_file.py": "the configuration that the user names, which may be a pipe",
    "workloads/federation/shared_folders.py": "a reader of its own: regular files below a descriptor, and no links",
    "workloads/gpus.py": "the file of assigned GPUs, which root writes",
    "workloads/http_client.py": "no file: a request",
    "workloads/quantize/inside_tensorrt.py": "the timing cache that the operator names, read beside TensorRT alone",
    "workloads/quantize/language_model/checkpoint.py": "a file that it has written itself",
    "workloads/quantize/run.py": "a file of the kernel",
    "workloads/serving/adapters.py": "the adapters of the server, which root writes",
    "workloads/serving/forward.py": "no file: a request",
    "workloads/serving/grpc_front.py": "keys and certificates of the server, which root writes",
    "workloads/serving/keys.py": "the keys of clients, which root writes",
    "workloads/serving/load_adapters.py": "the plan of the server, which root writes",
    "workloads/serving/signed_lines.py": "the key of the log, which root writes",
    "workloads/serving/switch.py": "the plan, releases and state, which root and the server's own account write",
    "workloads/serving/watch_config.py": "a file that this program writes itself, in its own directory",
    "workloads/tracking/provenance.py": "files of the package",
    "workloads/tracking/server.py": "the artifact and the credentials of the account itself",
    "workloads/tracking/tracker.py": "a file that this program writes itself, in its own directory",
    "workloads/training/hosts.py": "files of the kernel, and those that the run writes itself, in its own directory",
    "workloads/training/plan.py": "the plan of the run, which root writes",
    "workloads/training/pod.py": "a file that this program writes itself, in its own directory",
}
"""Files with other readers, and whose files they read."""


def opens(source: str) -> Iterator[tuple[int, str]]:
    """Yield the line and the name of each call in a program that opens a path to read it."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        owner, _, last = name.rpartition(".")
        if last in ("read_bytes", "read_text") or (last == "open" and _reads(node, owner)):
            yield node.lineno, name


def _reads(call: ast.Call, owner: str) -> bool:
    """Return whether *call* opens a file to read it."""
    if owner == "os":
        flags = " ".join(map(ast.unparse, call.args[1:2]))
        return (
            not any(flag in flags for flag in ("O_DIRECTORY", "O_PATH", "O_CREAT", "O_NONBLOCK")) and flags != "flags"
        )
    modes = [*call.args[0 if owner else 1 :][:1], *(each.value for each in call.keywords if each.arg == "mode")]
    return not any(isinstance(mode, ast.Constant) and str(mode.value)[:1] in "wxa" for mode in modes)


def test_files_of_others_are_opened_as_regular_files() -> None:
    """A new use calls `read_file`, `read_whole` or `open_regular` of `workloads.foreign`, or gets its reason here."""
    found = {
        name: [f"{name}:{line}: {call}" for line, call in calls]
        for path in sorted((ROOT / "workloads").rglob("*.py"))
        if (name := str(path.relative_to(ROOT))) != READER and (calls := [*opens(path.read_text())])
    }

    assert {name: calls for name, calls in found.items() if name not in FILES} == {}
    assert {*FILES} == {*found}, "the table has files without a use"


@pytest.mark.parametrize(
    ("line", "is_found"),
    [
        ("path.read_bytes()", True),
        ("(a / 'b').read_text()", True),
        ("open(path)", True),
        ("path.open()", True),
        ("path.open('rb')", True),
        ("path.open(mode='r')", True),
        ("os.open(path, os.O_RDONLY)", True),
        ("os.open(path, os.O_RDONLY | os.O_NONBLOCK)", False),
        ("os.open(path, os.O_RDONLY | os.O_DIRECTORY)", False),
        ("path.open('xb')", False),
        ("open(path, 'w')", False),
        ("path.open(mode='a')", False),
        ("read_file(path)", False),
    ],
)
def test_the_rule_finds_each_way_to_open(line: str, is_found: bool) -> None:
    assert bool([*opens(line)]) == is_found
