"""Every tool of the probe, when it prints nothing, half, garbage, another language, or an error: then nothing is known.

What such a tool would have printed is neither absent nor as declared. Each answer here is also read as it is, whole.
"""

import ast
import json
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from rackwright.facts import probe
from rackwright.facts.probe import (
    accounts,
    block,
    containers,
    credentials,
    encryption,
    health,
    measures,
    nftables,
    observe,
    service_state,
    signature_check,
    system,
    units,
)
from rackwright.facts.probe.observe import attempt
from tests.facts.test_units import LISTED
from tests.support.fabricated_machine import MIB, FabricatedMachine

TRACKING = "0A000203,10.0.2.3,3,1.5,-0.000012345,0.0045,0.000031,-12.3,0.0,0.1,0.02,0.001,64.5,Normal\n"
SMARTCTL = {
    "smartctl": {"exit_status": 0},
    "device": {"name": "/dev/sda"},
    "smart_status": {"passed": True},
    "ata_smart_attributes": {"table": [{"id": 197, "raw": {"value": 0}}]},
}
NVME = {"critical_warning": 0, "media_errors": 0, "percent_used": 3}
RPM = "bash 0:5.1.8-9.el9\nrpm 0:4.16.1.3-29.el9\nfilesystem 0:3.16-5.el9\n"
SSHD = "port 22\nauthorizedkeyscommand none\nauthorizedkeysfile .ssh/authorized_keys /etc/ssh/keys/%u\n"
NAMESPACES = "NAME     LABELS \ndefault         \nk8s.io          \n"
IMAGES = (
    "REF TYPE DIGEST SIZE PLATFORMS LABELS \n"
    f"quay.io/x:1 application/vnd.oci.image.manifest.v1+json sha256:{'a' * 64} 2.1 MiB linux/amd64 -      \n"
)
NFT = (
    '{"nftables": [{"metainfo": {"json_schema_version": 1}}, {"table": {"family": "inet", "name": "rackwright_x"}}]}\n'
)
SHOWN = "Id=srv-hot.mount\nLoadState=loaded\n"


def as_it_is(printed: bytes) -> bytes:
    return printed


def nothing(printed: bytes) -> bytes:
    return b""


def half(printed: bytes) -> bytes:
    return printed[: len(printed) // 2]


def all_but_the_end(printed: bytes) -> bytes:
    return printed.rstrip()[:-1]


def garbage(printed: bytes) -> bytes:
    return bytes(range(128, 256)) * 4


def an_error(printed: bytes) -> bytes:
    return b"Failed to connect to bus: Host is down\n"


PUBLIC = "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE\n-----END PUBLIC KEY-----\n"
CERTIFICATE = (
    f"notAfter=Dec 11 05:53:55 2026 GMT\nX509v3 Subject Alternative Name: \n    DNS:a.b, IP Address:10.0.0.1\n{PUBLIC}"
)
WORDS = {
    b"notAfter": b"nichtNach",
    b"PUBLIC KEY": b"SCHLUESSEL",
    b"loaded units listed": b"geladene Units gelistet",
    b"authorizedkeysfile": b"Schl\xc3\xbcsseldatei",
    b"LoadState": b"Ladezustand",
    b"NeedDaemonReload": b"BrauchtNeuladen",
    b"Normal": b"Regul\xc3\xa4r",
    b'"signatures"': b'"Signaturen"',
    b'"nftables"': b'"nftables-Regeln"',
    b'"smart_status"': b'"SMART-Zustand"',
    b'"critical_warning"': b'"kritische Warnung"',
    b"NAME ": b"NOMBRE ",
    b"REF ": b"REFERENZ ",
    b"\nrpm 0:": b"\nPaket rpm 0:",
}


def another_language(printed: bytes) -> bytes:
    for word, other in WORDS.items():
        printed = printed.replace(word, other)
    return printed


Spoiled = Callable[[bytes], bytes]
SPOILED = (nothing, half, all_but_the_end, garbage, an_error, another_language)


@pytest.fixture
def machine(tmp_path, monkeypatch):
    monkeypatch.setattr("os.geteuid", lambda: 0)
    made = FabricatedMachine(tmp_path)
    made.write("run/containerd/containerd.sock", "")
    made.write("etc/systemd/system/srv-hot.mount", "[Mount]\nWhat=UUID=1\nWhere=/srv/hot\n")
    made.write("etc/rackwright/tiers/hot.cred", "AAAA")
    made.write("sys/module/nf_tables/refcnt", "1")
    subprocess.run(["mkfs.ext4", "-q", "-F", made.device("sda", 16 * MIB)], check=True)
    made.device("sdb", 16 * MIB)
    return made


@pytest.fixture
def spoil(monkeypatch):
    """Let tools print what is recorded of them; where the arguments have *word*, it is spoiled."""
    real = observe.run_process
    printed = {
        "list-units": LISTED,
        "--property=Id,LoadState": SHOWN,
        "--property=Id,NeedDaemonReload": "Id=srv-hot.mount\nNeedDaemonReload=no\n",
        "smartctl": json.dumps(SMARTCTL),
        "nvme": json.dumps(NVME),
        "chronyc": TRACKING,
        "nft": NFT,
        "rpm": RPM,
        "namespaces": NAMESPACES,
        "images": IMAGES,
        "sshd": SSHD,
        "systemd-creds": "the key of a tier, in one line",
        "x509": CERTIFICATE,
        "pkey": PUBLIC,
    }

    def spoil(word: str, how: Spoiled) -> None:
        def run(argv: Any, *options: Any) -> Any:
            if argv[0] == "wipefs":
                report = real(argv, *options).stdout
            else:
                report = next(text for key, text in printed.items() if key in argv).encode()
            return subprocess.CompletedProcess(argv, 0, how(report) if word in argv else report, b"")

        monkeypatch.setattr(observe, "run_process", run)

    return spoil


def signatures_of(machine: FabricatedMachine) -> Any:
    found = block.BlockDevices(machine.top)
    return [found.signatures["sda"], found.signatures["sdb"]]


def certificate_of(machine: FabricatedMachine) -> Any:
    machine.write("etc/rackwright/mlflow/tls.crt", "certificate")
    machine.write("etc/rackwright/mlflow/tls.key", "key")
    return service_state.service_certificates(machine.top)["/etc/rackwright/mlflow/tls.crt"]


DEPENDING: dict[str, Callable[[FabricatedMachine], list[Any]]] = {
    "wipefs": signatures_of,
    "smartctl": lambda machine: [attempt(health.health, "/dev/sda")],
    "nvme": lambda machine: [attempt(health.read_nvme, "/dev/nvme0n1")],
    "nft": lambda machine: [attempt(nftables.tables, machine.top)],
    "chronyc": lambda machine: [*measures.measures().values()],
    "rpm": lambda machine: [attempt(system.rpm_packages)],
    "list-units": lambda machine: [attempt(units.units, machine.top)],
    "--property=Id,LoadState": lambda machine: [units.units(machine.top)["srv-hot.mount"]["load"]],
    "--property=Id,NeedDaemonReload": lambda machine: [attempt(units.overrides, machine.top)],
    "x509": lambda machine: [certificate_of(machine)],
    "pkey": lambda machine: [certificate_of(machine)],
    "sshd": lambda machine: [accounts.login_keys(machine.top)["root"]],
    "namespaces": lambda machine: [containers.images(machine.top)["containerd"]],
    "images": lambda machine: [containers.images(machine.top)["containerd"]],
}
"""By a word in a tool's arguments the facts that depend on what it prints."""


def is_unknown(found: Any) -> bool:
    return isinstance(found, dict) and found.keys() == {"unknown"} and bool(found["unknown"])


@pytest.mark.parametrize("word", DEPENDING)
def test_a_whole_answer_is_known(machine, spoil, word):
    spoil(word, as_it_is)

    assert not [found for found in DEPENDING[word](machine) if is_unknown(found)]


@pytest.mark.parametrize("how", SPOILED)
@pytest.mark.parametrize("word", DEPENDING)
def test_a_spoiled_answer_leaves_all_that_depends_on_it_unknown(machine, spoil, word, how):
    spoil(word, how)

    assert all(is_unknown(found) for found in DEPENDING[word](machine)), DEPENDING[word](machine)


def test_a_sealed_key_of_which_nothing_comes_neither_opens_nor_does_not(machine, spoil):
    spoil("systemd-creds", nothing)
    found = credentials.credentials(machine.top, b"salt")["/etc/rackwright/tiers/hot.cred"]

    assert is_unknown(found["opens"]) and is_unknown(found["digest"])


@pytest.mark.parametrize("text", ["", "Package: bash\nStatus: install ok installed\n\n", "half"])
def test_a_database_of_packages_without_dpkg_or_cut_off_is_unknown(machine, text):
    machine.write("var/lib/dpkg/status", text)

    assert is_unknown(attempt(system.packages, machine.top)) and is_unknown(attempt(system.held_packages, machine.top))


def test_every_tool_that_the_probe_runs_is_judged_here():
    """
    Wherever a module calls run_tool(), the name of the tool stands as a text, and here.
    """
    called = set()
    for name, source in probe.modules():
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "run_tool":
                first = node.args[0]
                called.add(first.value if isinstance(first, ast.Constant) else f"{name}: {ast.unparse(first)}")

    judged = {
        "wipefs",
        "smartctl",
        "nvme",
        "nft",
        "chronyc",
        "rpm",
        "systemctl",
        "ctr",
        "systemd-creds",
        "sshd",
        "openssl",
    }
    elsewhere = {"busctl", "kubectl", "kubeadm"}
    """Their answers are JSON or objects, and tests of loads and of Kubernetes spoil them."""
    passed_on = {each for each in called if each.endswith((".containers: *argv", ".health: *argv"))}
    assert called - passed_on <= judged | elsewhere
    assert judged - {"smartctl", "ctr"} <= called


# --- what wipefs does not say, and two other sources know


def lie(monkeypatch, *types: str) -> None:
    """Let wipefs leave out signatures of these types."""
    real = observe.run_process

    def run(argv: Any, *options: Any) -> Any:
        report = json.loads(real(argv, *options).stdout)
        kept = [row for row in report["signatures"] if row["type"] not in types]
        return subprocess.CompletedProcess(argv, 0, json.dumps({"signatures": kept}).encode(), b"")

    monkeypatch.setattr(observe, "run_process", run)


@pytest.mark.parametrize(
    ("argv", "kind"),
    [
        (["mkfs.ext4", "-q", "-F"], "ext4"),
        (["mkfs.xfs", "-q", "-f"], "xfs"),
    ],
)
def test_a_filesystem_that_wipefs_does_not_name_is_not_absent(machine, monkeypatch, argv, kind):
    subprocess.run([*argv, machine.device("sdc", 400 * MIB)], check=True, capture_output=True)
    lie(monkeypatch, kind)
    found = block.BlockDevices(machine.top)

    assert found.signatures["sdc"]["unknown"].startswith("wipefs finds nothing on sdc, and there is a superblock of")
    device = next(each for each in block.filesystems(found) if each["device"] == "sdc")
    assert is_unknown(device["type"]) and is_unknown(device["complete"])


def test_a_luks_header_that_wipefs_does_not_name_is_not_absent(machine, monkeypatch):
    image = machine.device("sdc", 16 * MIB)
    with image.open("r+b") as file:
        file.write(b"LUKS\xba\xbe\x00\x02" + bytes(160) + b"01234567-89ab-cdef-0123-456789abcdef\0")
    lie(monkeypatch, "crypto_LUKS")
    found = block.BlockDevices(machine.top)

    assert "superblock of LUKS at byte 0" in found.signatures["sdc"]["unknown"]
    assert [is_unknown(each["uuid"]) for each in encryption.luks_headers(found) if each["device"] == "sdc"] == [True]


@pytest.mark.parametrize("kind", ["btrfs", "ext4"])
def test_what_is_mounted_is_not_absent(machine, kind):
    machine.mount("sdb", "/srv/hot", kind)
    found = block.BlockDevices(machine.top).signatures["sdb"]

    assert found == {"unknown": f"wipefs finds nothing on sdb, and {kind} is mounted from it at /srv/hot"}


def test_swap_space_in_use_is_not_absent(machine):
    (machine.root / "proc/swaps").write_text("Filename Type Size Used Priority\n/dev/sdb partition 1 0 -2\n")

    assert "in use as swap space" in block.BlockDevices(machine.top).signatures["sdb"]["unknown"]


def test_a_device_that_cannot_be_judged_hides_no_other(machine, monkeypatch):
    machine.mount("sdb", "/srv/hot")
    found = block.filesystems(block.BlockDevices(machine.top))

    assert [each["type"] for each in found if each["device"] == "sda"] == ["ext4"]
    assert [is_unknown(each["type"]) for each in found if each["device"] == "sdb"] == [True]


@pytest.mark.parametrize("raw", [b"\x53\xef", b"\x53\xef" + bytes(6), b"\xfc\x4e\x2b\xa9"])
def test_bytes_that_only_look_like_the_beginning_of_a_superblock_are_none(raw):
    assert not signature_check.is_ext(bytes(56) + raw + bytes(1024))
    assert not signature_check.is_md(raw + bytes(256), 0)
