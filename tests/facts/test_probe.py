"""The whole probe as it is shipped: run on this computer and read back."""

import ast
import base64
import json
import os
import subprocess
import zlib
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from rackwright.errors import HostUnreachable
from rackwright.facts import probe
from rackwright.facts.digest import digest, salt_id
from rackwright.facts.facts import FORMAT
from rackwright.facts.probe import main, output, paths
from tests.facts.test_units import LISTED
from tests.support import recorded_facts
from tests.support.drive_content import ACTIVE
from tests.support.fabricated_machine import MIB, FabricatedMachine
from tests.support.inventory import NOTHING

KIND_HOSTS = Path(__file__).parents[1] / "kinds" / "recorded"
SALT = bytes(range(32))
NOBODY = 65534


@cache
def run(user: int | None = None) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(probe.command(), input=probe.stdin(SALT), capture_output=True, user=user, cwd="/")


def unknowns(raw: Any) -> list[str]:
    """Return the reasons for all that is unknown in *raw*."""
    if isinstance(raw, dict):
        if raw.keys() == {"unknown"}:
            return [raw["unknown"]]
        return [reason for value in raw.values() for reason in unknowns(value)]
    return [reason for value in raw for reason in unknowns(value)] if isinstance(raw, list) else []


def test_it_runs_here_and_reads_back():
    done = run()
    facts = probe.parse(done.stdout, "here")

    assert (done.returncode, done.stderr) == (0, b"")
    assert facts.raw["format"] == FORMAT
    assert facts.raw["salt_id"] == salt_id(SALT)
    assert facts.identity.hostname == os.uname().nodename
    assert facts.read("files")["/etc/passwd"]["digest"] == digest(Path("/etc/passwd").read_bytes(), SALT)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become nobody")
def test_without_root_it_says_what_it_could_not_see():
    done = run(NOBODY)
    facts = probe.parse(done.stdout, "here")

    assert (done.returncode, done.stderr) == (0, b"")
    assert all(unknowns(facts.raw))
    assert facts.raw["files"]["/etc/shadow"]["digest"] == {"unknown": "/etc/shadow: Permission denied"}
    for drive in facts.read("drives"):
        assert drive["signatures"].keys() == drive["superblock"].keys() == {"unknown"}


def shape(raw: Any) -> Any:
    """Return the keys of *raw*, as deep as they are fixed."""
    if isinstance(raw, list | tuple):
        return shape(raw[0]) if raw else None
    if isinstance(raw, dict) and raw.keys() != {"unknown"}:
        return {key: shape(value) for key, value in raw.items()}
    return None


class Answered:
    """Echoes that all come back."""

    def can_send(self, path: paths.PeerPath) -> bool:
        return True

    def send(self, sizes: dict[paths.PeerPath, list[int]], seconds: float) -> None:
        for path, several in sizes.items():
            path.largest_passed = max(several)

    def close(self) -> None:
        pass


def recorded_with_kinds() -> set[str]:
    """Return the keys of the facts of all hosts that were recorded for the kinds."""
    return {key for path in KIND_HOSTS.glob("*.json") for key in json.loads(path.read_text())}


def test_recorded_facts_have_the_layout_that_the_probe_writes_today(tmp_path, monkeypatch):
    """
    What other tests take for facts has to be what a host would say.
    """
    machine = FabricatedMachine(tmp_path)
    machine.device("sda", 32 * MIB)
    machine.array("md127", ACTIVE, {"sda": ("0", "in_sync")})
    member = json.loads((Path(__file__).parent / "md_superblocks.json").read_text())["1.2 raid10"]
    for name in ("sda", "md127"):
        with (tmp_path / "dev" / name).open("r+b") as image:
            image.seek(4096)
            image.write(bytes.fromhex(member["superblock"]))
    subprocess.run(["mkfs.ext4", "-q", "-F", tmp_path / "dev/md127"], check=True)
    machine.link("rack0")
    machine.sockets("tcp", ("0100007F:0016", "0A"))
    route = {"destination": "default", "gateway": "10.0.2.2", "link": 2, "metric": 0}
    monkeypatch.setattr("rackwright.facts.probe.netlink.routes", lambda: [route])
    monkeypatch.setattr("rackwright.facts.probe.netlink.dead_routes", list)
    monkeypatch.setattr("rackwright.facts.probe.netlink.addresses", dict)
    machine.write("etc/rackwright/peers", "10.30.0.11 10.30.0.12 1500 gpu-01\n")
    monkeypatch.setattr("rackwright.facts.probe.paths.Echoes", Answered)
    monkeypatch.setattr("rackwright.facts.probe.units.run_tool", lambda *argv: LISTED if "list-units" in argv else "")
    content = dict.fromkeys(("passed", "pending_sectors", "media_errors", "wear_percent"))
    monkeypatch.setattr("rackwright.facts.probe.accounts.run_tool", lambda *argv: "")
    monkeypatch.setattr("rackwright.facts.probe.health.health", lambda path: content)

    fresh, recorded = main.collect(str(tmp_path), SALT), recorded_facts.raw(recorded_facts.TODAY)
    for key in OF_THE_RUNNING_SYSTEM:  # its processes and kernel have no files below another root
        fresh.pop(key), recorded.pop(key, None)
    for key in ({*fresh} - {*recorded}) & {*recorded_with_kinds(), *NOTHING}:
        del fresh[key]  # recorded with the host of the kind that reads it

    for found in (fresh, recorded):  # the tables are named by what is there: a name of each will do
        tables = (
            "packages",
            "files",
            "directories",
            "texts",
            "units",
            "users",
            "groups",
            "sysctls",
            "kernels",
            "paths",
        )
        for key in tables:
            found[key] = list(found[key].values())
        for key in (
            *("libraries", "module_versions", "readings", "dkms", "login_keys"),
            *("sudoers", "pam_modules", "foreign_packages"),
        ):
            found[key] = [*found[key].values()][:0]
    assert {"format": None, "clock_offset_seconds": None, **shape(fresh)} == shape(recorded)


OF_THE_RUNNING_SYSTEM = ("loads", "changed_files", "same_content", "chosen_routes", "proofs", "swaps")


def test_one_section_that_breaks_takes_no_other_along(tmp_path, monkeypatch):
    def break_down(*arguments: Any) -> None:
        raise ZeroDivisionError("a bug")

    machine = FabricatedMachine(tmp_path)
    for place in ("block.drives", "system.tree", "units.units", "network.links", "accounts.users"):
        monkeypatch.setattr(f"rackwright.facts.probe.{place}", break_down)

    found = main.collect(machine.top, SALT)

    assert {key for key in found if found[key] == {"unknown": "ZeroDivisionError: a bug"}} == {
        "drives",
        "files",
        "directories",
        "units",
        "loads",
        "service_processes",
        "group_limits",
        "changed_files",
        "same_content",
        "links",
        "users",
    }
    assert found["arrays"] == []


def test_a_command_that_needs_no_account_of_files_does_not_wait_for_one(tmp_path, monkeypatch):
    """
    Whether files are as their packages made them is then unknown, and never fine.
    """
    machine = FabricatedMachine(tmp_path)
    asked = Path(tmp_path, "asked")
    monkeypatch.setattr("rackwright.facts.probe.file_integrity.file_integrity", lambda *given: asked.touch())
    main.collect(machine.top, SALT)
    assert asked.exists()
    asked.unlink()

    found = main.collect(machine.top, SALT, account_of_files=False)

    assert not asked.exists()
    unknown = {"unknown": "this command asked for no account of files"}
    assert (found["integrity"], found["unpackaged"]) == (unknown, unknown)


def test_no_block_devices_to_look_at_are_unknown_ones(tmp_path):
    machine = FabricatedMachine(tmp_path)
    (tmp_path / "sys/block").rmdir()

    found = main.collect(machine.top, SALT)

    for key in ("drives", "arrays", "filesystems", "mounts"):
        assert "sys/block: No such file" in found[key]["unknown"]


def test_the_salt_and_the_program_are_on_no_command_line():
    assert SALT.hex() not in " ".join(probe.command())
    assert SALT.hex().encode() in probe.stdin(SALT)


@pytest.mark.parametrize("module", [name for name, _ in json.loads(probe.stdin(SALT))["modules"]])
def test_it_is_written_in_the_python_of_old_hosts(module):
    source = dict(json.loads(probe.stdin(SALT))["modules"])[module]

    ast.parse(source, feature_version=(3, 8))
    assert "removeprefix" not in source
    assert "removesuffix" not in source


def packed(raw: Any) -> bytes:
    return base64.b64encode(zlib.compress(json.dumps(raw).encode())) + b"\n"


def test_a_talkative_login_shell_does_no_harm():
    assert probe.parse(b"Welcome!\nyou have mail\n" + packed({"taken_at": 5}), "gpu-01").taken_at == 5


@pytest.mark.parametrize("stdout", [b"", b"Password:", b"AAAA\n", packed(["no object"])])
def test_an_answer_that_is_no_facts_is_refused(stdout):
    with pytest.raises(HostUnreachable, match="gpu-01: the answer of the probe"):
        probe.parse(stdout, "gpu-01")


def nested(opening: bytes, inner: bytes, closing: bytes, levels: int) -> bytes:
    return b'{"a":' + opening * levels + inner + closing * levels + b"}"


@pytest.mark.parametrize(
    "text",
    [
        b'{"a":"' + b"x" * probe.FACTS_BYTES + b'"}',
        nested(b"[", b"", b"]", 100_000),
        nested(b'{"a":', b"1", b"}", 400),
        nested(b"[1,[2,", b"3", b"]]", 20),
        b'{"a":' + b"9" * 10_000 + b"}",
        b'{"a":"\xff"}',
    ],
    ids=["bomb", "deep lists", "deep objects", "mixed", "digits", "no UTF-8"],
)
def test_a_hostile_answer_is_refused_within_bounds(text):
    with pytest.raises(HostUnreachable, match="gpu-01: the answer of the probe"):
        probe.parse(base64.b64encode(zlib.compress(text, 9)), "gpu-01")


def test_an_answer_that_was_cut_off_is_refused():
    whole = zlib.compress(json.dumps({"a": "b" * 1000}).encode())
    with pytest.raises(HostUnreachable, match="gpu-01: the answer of the probe"):
        probe.parse(base64.b64encode(whole[: len(whole) // 2 // 3 * 3]), "gpu-01")


def test_half_of_a_pair_becomes_a_question_mark_and_a_whole_one_stays():
    text = b'{"half\\udcff": "\\ud83d", "whole": "\\ud83d\\ude00", "written": "\\\\udcff"}'
    facts = probe.parse(base64.b64encode(zlib.compress(text)), "gpu-01")

    assert facts.raw == {"half?": "?", "whole": "\U0001f600", "written": "\\udcff"}
    assert probe.parse(base64.b64encode(zlib.compress(b'{"half": "\\uD83D"}')), "gpu-01").raw == {"half": "?"}


def test_a_name_that_is_no_utf8_is_written_with_its_bytes():
    name = os.fsdecode(b"ho\xffst:x\xc3")
    report = json.loads(output.pack({name: [name, "h\xf6st", 'a"\\b']}))

    assert report == {"ho\\xffst:x\\xc3": ["ho\\xffst:x\\xc3", "h\xf6st", 'a"\\b']}
    json.dumps(report, ensure_ascii=False).encode()


def test_gpus_can_be_looked_at_alone():
    """
    With the same answer as when all is looked at, and as little as can be sent.
    """
    done = subprocess.run(probe.command(), input=probe.stdin_for_gpus(), capture_output=True, cwd="/")
    alone, everything = probe.parse(done.stdout, "here"), probe.parse(run().stdout, "here")

    assert (done.returncode, done.stderr) == (0, b"")
    assert alone.raw.keys() == {"format", "taken_at", "gpu_driver", "gpus", "gpu_assignments", "xids"}
    assert [alone.raw[key] for key in ("gpu_driver", "gpus")] == [everything.raw[key] for key in ("gpu_driver", "gpus")]
