"""The role nvidia_driver: which set it takes, what it gives GPUs, and when it waits."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rackwright.core.contract import Difference, Plan
from rackwright.facts.facts import Facts
from rackwright.kinds.role import plan as planning
from rackwright.kinds.role.entries.gpus import GpuSetting
from rackwright.kinds.role.observe import observe_property
from rackwright.kinds.role.promise import Promises, promises
from rackwright.kinds.role.refusals import refusals
from rackwright.kinds.role.spec import AboutFleet, AboutHost, RoleSpec
from rackwright.schema import Host as DeclaredHost
from rackwright.schema.catalogue import SOFTWARE
from rackwright.twin.gpu import state
from tests.roles.apt import only_with_apt, priorities, setting
from tests.support import recorded_facts
from tests.support.gpu_stand_in import Host, stand_in
from tests.support.our_roles import REPOSITORY, ROLES

SOURCE = ROLES["nvidia_driver"]
ROLE = Path(__file__).parents[2] / "roles" / "nvidia_driver"
SETS = SOURCE.by_os["debian-12"]["__nvidia_driver_sets"]
OF_DEBIAN = [one for one in SETS if one["source"] == "distribution"]
OF_VENDOR = [one for one in SETS if one["source"] == "vendor"]
KERNEL = "linux-image-6.1.0-50-amd64"


def spec(**variables: Any) -> RoleSpec:
    return RoleSpec(
        host="alpha",
        role="nvidia_driver",
        identity={"serial": "S1"},
        about=AboutHost(name="alpha", os="debian-12", profile="virtual"),
        fleet=AboutFleet(name="lab"),
        variables=variables,
    )


def role_promises(**variables: Any) -> Promises:
    return promises(spec(**variables), REPOSITORY)


def wants(**variables: Any) -> dict[str, dict[str, Any]]:
    """Return what is wanted of each thing."""
    found: dict[str, dict[str, Any]] = {}
    for entry in role_promises(**variables).entries:
        found.setdefault(entry.thing, {}).update(entry.want(REPOSITORY))
    return found


def files(**variables: Any) -> dict[str, str]:
    return {file.file: str(file.content) for file in role_promises(**variables).files}


# --- sets


@pytest.mark.parametrize(
    ("variables", "version", "module"),
    [
        ({}, "535.261.03", "nvidia-current-open"),
        ({"version": "535", "flavour": "proprietary"}, "535.309.01", "nvidia-current"),
        ({"version": "535.261.03", "flavour": "proprietary"}, "535.261.03", "nvidia-current"),
    ],
)
def test_a_branch_takes_the_newest_set_of_its_flavour_and_a_version_its_own(variables, version, module):
    chosen = role_promises(**variables).variables["__nvidia_driver_set"]

    assert (chosen["version"], chosen["module"]) == (version, module)
    assert wants(**variables)["built_module:nvidia"] == {"versions": (version,), "missing_for": ()}


def test_a_branch_of_the_vendor_is_the_whole_declaration_of_its_set():
    assert {one["branch"] for one in OF_VENDOR} == {name for name, row in SOFTWARE.drivers.items() if row.known_set}
    for flavour in ("open", "proprietary"):
        variables = {"source": "vendor", "version": "580", "flavour": flavour}
        assert [*SOURCE.problems("debian-12", variables), *refusals(SOURCE, "debian-12", variables)] == []
        chosen = role_promises(**variables).variables["__nvidia_driver_set"]
        assert (chosen["version"], chosen["flavour"]) == ("580.95.05", flavour)
        assert not [name for name in chosen["packages"] if "fabric" in name]


def test_hosts_with_switches_get_the_manager_of_the_drivers_version():
    variables = {"source": "vendor", "version": "580", "fabric_manager": "on"}
    want = wants(**variables)

    assert [*refusals(SOURCE, "debian-12", variables)] == []
    assert want["package:nvidia-fabricmanager"] == {"version": "580.95.05-1", "held": True}
    assert want["unit:nvidia-fabricmanager.service"]["active"] == "active"
    for profile, fabric_manager in (("training-h100", "on"), ("training-a40", None)):
        host = {"address": "192.0.2.1", "identity": {"serial": "S"}, "os": "debian-12", "profile": profile}
        roles = {"nvidia_driver": {"source": "vendor", "version": "580"}}
        variables = DeclaredHost.model_validate({**host, "roles": roles}).variables("nvidia_driver")
        assert variables.get("fabric_manager") == fabric_manager


@only_with_apt
def test_apt_takes_what_a_set_of_the_vendor_depends_on_in_the_drivers_version(tmp_path):
    written = files(source="vendor", version="580", repository="https://mirror.example/n", repository_key=KEY)
    pins = written["/etc/apt/preferences.d/60-rackwright-nvidia-driver"]

    assert (
        "Package: firmware-nvidia-gsp libcuda1 libcudadebugger1 libnvidia-* nvidia-*\nPin: version 580.95.05-1\n"
        in pins
    )
    assert priorities(pins, tmp_path).startswith("\n")


@pytest.mark.parametrize("number", range(len(OF_VENDOR)))
def test_a_set_of_the_vendor_is_one(number):
    one = OF_VENDOR[number]
    packages = one["packages"]

    assert packages[f"linux-image-{one['kernel']}"] == packages[f"linux-headers-{one['kernel']}"]
    assert packages["linux-image-amd64"] == packages["linux-headers-amd64"] == packages[f"linux-image-{one['kernel']}"]
    of_driver = {name: version for name, version in {**packages, **one["manager"]}.items() if "linux" not in name}
    assert {*of_driver.values()} == {f"{one['version']}-1"}
    assert one["brought_by"] in packages and not set(one["replaces"]) & set(packages)


@pytest.mark.parametrize("number", range(len(OF_DEBIAN)))
def test_a_set_is_one(number):
    """
    Its kernel with that kernel's headers, and module, firmware, libraries and tools of one version of the driver.
    """
    one = OF_DEBIAN[number]
    packages = one["packages"]

    assert packages[f"linux-image-{one['kernel']}"] == packages[f"linux-headers-{one['kernel']}"]
    assert packages["linux-image-amd64"] == packages["linux-headers-amd64"] == packages[f"linux-image-{one['kernel']}"]
    of_driver = [one["brought_by"], "firmware-nvidia-gsp", "libcuda1", "libnvidia-ml1", "nvidia-smi"]
    assert {packages[name].partition("-")[0] for name in of_driver} == {one["version"]}
    assert len({packages[name] for name in of_driver}) == 1
    assert not set(one["replaces"]) & set(packages)


def test_each_package_of_the_set_is_promised_in_its_version_held_pinned_and_kept_from_updates():
    want, written = wants(version="535.261.03"), files(version="535.261.03")
    packages = role_promises(version="535.261.03").variables["__nvidia_driver_set"]["packages"]
    pins = written["/etc/apt/preferences.d/60-rackwright-nvidia-driver"]
    updates = written["/etc/apt/apt.conf.d/53rackwright-nvidia-driver"]

    assert packages[KERNEL]
    for package, version in packages.items():
        assert want[f"package:{package}"] == {"version": version, "held": True}
        assert f"Package: {package}\nPin: version {version}\nPin-Priority: 1001\n" in pins
        assert f'"^{package.replace(".", chr(92) + ".")}$";' in updates
    assert want["package:nvidia-kernel-dkms"] == {"installed": False}


@only_with_apt
def test_apt_takes_what_is_written_for_it(tmp_path):
    """
    A file of preferences that it does not take stops every installation.
    """
    written = files()

    assert priorities(written["/etc/apt/preferences.d/60-rackwright-nvidia-driver"], tmp_path).startswith("\n")
    left_alone = setting(
        written["/etc/apt/apt.conf.d/53rackwright-nvidia-driver"], "Unattended-Upgrade::Package-Blacklist", tmp_path
    )
    packages = role_promises().variables["__nvidia_driver_set"]["packages"]
    assert [name for name in packages if not any(re.search(pattern, name) for pattern in left_alone)] == []
    assert not any(re.search(pattern, "libcuda10") for pattern in left_alone)


KEY = "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmQ==\n-----END PGP PUBLIC KEY BLOCK-----\n"
DECLARED = {
    "version": "580.95.05",
    "branch": "580",
    "flavour": "open",
    "kernel": "6.1.0-50-amd64",
    "module": "nvidia",
    "brought_by": "nvidia-kernel-open-dkms",
    "replaces": ["nvidia-open-kernel-dkms"],
    "packages": {
        "linux-image-6.1.0-50-amd64": "6.1.176-1",
        "linux-headers-6.1.0-50-amd64": "6.1.176-1",
        "nvidia-kernel-open-dkms": "580.95.05-1",
        "nvidia-fabricmanager": "580.95.05-1",
    },
}
VENDOR = {
    "source": "vendor",
    "version": "580",
    "repository": "https://mirror.example:8443/nvidia",
    "repository_key": KEY,
    "sets": [DECLARED],
}


def declared(packages: dict[str, str], **more: Any) -> dict[str, Any]:
    """Return the vendor's variables with other *packages* in the set; None takes one away."""
    kept = {name: version for name, version in (DECLARED["packages"] | packages).items() if version}
    return {**VENDOR, "sets": [{**DECLARED, "packages": kept}], **more}


def test_a_vendors_set_belongs_to_its_declaration_and_its_switches_are_managed():
    want, written = wants(**VENDOR), files(**VENDOR)

    assert [*SOURCE.problems("debian-12", VENDOR), *refusals(SOURCE, "debian-12", VENDOR)] == []
    assert want["built_module:nvidia"]["versions"] == ("580.95.05",)
    assert want["package:nvidia-fabricmanager"] == {"version": "580.95.05-1", "held": True}
    assert want["unit:nvidia-fabricmanager.service"]["active"] == "active"
    assert (
        "URIs: https://mirror.example:8443/nvidia/debian12/x86_64/\n"
        in (written["/etc/apt/sources.list.d/rackwright-nvidia-driver.sources"])
    )
    assert written["/etc/apt/keyrings/rackwright-nvidia-driver.asc"].strip() == KEY.strip()


def test_the_distributions_packages_want_no_place_and_no_manager():
    assert not [path for path in files() if "repository" in path or "keyring" in path or path.endswith(".sources")]
    assert not [thing for thing in wants() if "fabricmanager" in thing]


@only_with_apt
def test_nothing_comes_from_the_vendor_by_itself(tmp_path):
    written = files(**VENDOR)["/etc/apt/preferences.d/59-rackwright-nvidia-repository"]

    assert 'Pin: origin "mirror.example"\nPin-Priority: 90' in written
    assert priorities(written, tmp_path)


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        (
            declared({"nvidia-fabricmanager": "580.95.04-1"}),
            "got nvidia-fabricmanager 580.95.04-1; a fabric manager has",
        ),
        (declared({"nvidia-fabricmanager": ""}, fabric_manager="on"), "got on; the set has no fabric manager"),
        (declared({}, fabric_manager="off"), "got off; the set has nvidia-fabricmanager"),
        (declared({"linux-headers-6.1.0-50-amd64": ""}), "got 580.95.05 with linux-image-6.1.0-50-amd64, nvidia-"),
    ],
)
def test_a_set_that_is_none_is_refused(variables, expected):
    [problem] = refusals(SOURCE, "debian-12", variables)

    assert expected in " ".join(str(problem).split())


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        (
            {"version": "999"},
            "got version 999, open, of the distribution; known sets: 535.309.01 proprietary",
        ),
        ({"version": "535.309.01"}, "got version 535.309.01, open,"),
        ({"version": "580"}, 'Write `nvidia_driver: {source: vendor, version: "580"}`'),
        ({"version": "580.95.05"}, 'Write `nvidia_driver: {source: vendor, version: "580.95.05"}`'),
        ({**VENDOR, "version": "535"}, "got version 535, open, of the vendor;"),
        ({"fabric_manager": "on"}, "got on; the set has no fabric manager"),
    ],
)
def test_an_untried_combination_is_refused_by_name(variables, expected):
    [problem] = refusals(SOURCE, "debian-12", variables)

    assert expected in " ".join(str(problem).split())


# --- who is in the way


def difference(thing: str, name: str) -> Difference:
    return Difference(thing, name, "new", "old")


def planned(*differences: Difference, busy: bool) -> Plan:
    raw = json.loads(json.dumps(recorded_facts.gpus()))
    if not busy:
        for gpu in raw["gpus"]:
            gpu["processes"] = []
    facts = Facts({**raw, "owners": {}})
    return planning.plan(spec(), role_promises(), differences, facts, REPOSITORY)


def test_a_driver_is_not_changed_under_running_jobs():
    """
    Each process is named by number and name; once they have ended, the same plan has its steps.
    """
    change = difference("package:libcuda1", "version")
    processes = [process for gpu in Facts(recorded_facts.gpus()).gpus for process in gpu.processes]
    refused = planned(change, busy=True)

    assert processes
    assert len(refused.refusals) == len(processes) and refused.steps == ()
    for refusal, process in zip(refused.refusals, processes, strict=True):
        assert refusal.problem.startswith(f"process {process.pid} ({process.name or 'unknown name'}) has ")
    assert planned(change, busy=False).steps


@pytest.mark.parametrize("thing", ["package:libcuda1 held", "file:/etc/systemd/system/rackwright-gpus.service content"])
def test_a_repair_that_takes_no_gpu_away_does_not_wait(thing):
    assert planned(difference(*thing.split()), busy=True).steps


def test_without_a_driver_no_process_uses_a_gpu():
    facts = Facts({"gpus": {"unknown": "no driver"}, "owners": {}})

    differences = [difference("package:libcuda1", "version")]
    assert planning.plan(spec(), role_promises(), differences, facts, REPOSITORY).steps


# --- settings


@pytest.fixture(scope="module")
def compiled() -> Iterator[Path]:
    with stand_in() as root:
        yield root


@pytest.fixture
def host(compiled: Path) -> Host:
    host = Host(compiled)
    host.install("535.261.03")
    host.state.write_text(state.text("alpha", ["a100-80gb", "a100-80gb"]))
    host.restart()
    return host


@pytest.fixture
def give(host: Host, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return what runs the role's program on the stand-in for NVIDIA's library, with variables of the role."""

    def run(**variables: Any) -> subprocess.CompletedProcess[str]:
        program = tmp_path / "rackwright-gpus"
        program.write_text(files(**variables)["/usr/local/sbin/rackwright-gpus"])
        environment = {**os.environ, "LD_LIBRARY_PATH": str(host.root)}
        return subprocess.run([sys.executable, "-I", program], capture_output=True, text=True, env=environment)

    return run


root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root changes GPUs")


@root_only
def test_gpus_get_their_settings_once(give, host):
    """
    Every GPU, and what it has already is not set again.
    """
    wanted = {"ecc": False, "power_limit_watts": 300, "clocks_mhz": 1200, "mig": ["1g.10gb", "3g.40gb", "2g.20gb"]}
    first, again = give(**wanted), give(**wanted)

    assert (first.returncode, first.stderr) == (0, "")
    assert first.stdout.splitlines() == [
        f"GPU {index}: {line}"
        for index in (0, 1)
        for line in (
            "ecc off from the next reset",
            "mig 1g.10gb 3g.40gb 2g.20gb",
            "persistence on",
            "power_limit_watts 300",
        )
    ]
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
    assert host.state.read_text().count("locked_clocks=1200 1200\n") == 2


@root_only
def test_different_mig_instances_are_created_again_and_undeclared_ones_removed(give, host):
    give(mig=["7g.80gb"])
    other = give(mig=["1g.10gb", "2g.20gb"])
    assert other.stdout.splitlines()[0] == "GPU 0: mig 1g.10gb 2g.20gb"
    assert host.state.read_text().count("instance=") == 4

    assert give(mig=[]).stdout.splitlines()[0] == "GPU 0: mig off"
    assert "instance=" not in host.state.read_text()
    assert "mig=1" not in host.state.read_text()


@root_only
def test_a_gpu_that_does_not_take_a_setting_is_named_and_the_rest_is_given(give, host):
    failed = give(power_limit_watts=10_000, mig=["9g.90gb"])

    assert failed.returncode == 1
    assert "GPU 1 does not take power_limit_watts 10000: nvmlDeviceSetPowerManagementLimit: " in failed.stderr
    assert "it has 1g.10gb, 2g.20gb, 3g.40gb, 4g.40gb, 7g.80gb, 1g.20gb, not 9g.90gb" in failed.stderr
    assert "GPU 1: persistence on" in failed.stdout


def test_what_is_not_declared_stays_as_it_is(give):
    assert {line.split()[2] for line in give().stdout.splitlines()} <= {"persistence"}
    assert [thing for thing in wants() if thing.startswith("gpu:")] == ["gpu:persistence"]


def test_without_a_driver_it_says_so(give, host):
    host.install(None)

    assert give().returncode == 9


@pytest.mark.parametrize(
    ("key", "value", "change", "found"),
    [
        ("persistence", "on", {"persistence": False}, ("off on {1}", "on")),
        ("power_limit_watts", "400", {"power_limit_watts": 350.5}, ("350.5 on {1}", "400")),
        ("mig", "off", {"mig": True, "mig_instances": [{"profile": "2g"}, {"profile": "1g"}]}, ("1g 2g on {1}", "off")),
        ("ecc", "on", {"ecc": None}, ("none on {1}", "on")),
    ],
)
def test_a_gpu_that_is_set_otherwise_is_reported_by_its_place(key, value, change, found):
    gpu = {"persistence": True, "power_limit_watts": 400.0, "mig": False, "mig_instances": None, "ecc": True}
    raw = [{**gpu, "index": index, "pci_address": f"0000:1{index}:00.0"} for index in (0, 1)]
    raw[1] |= change
    claim = GpuSetting(gpu=key, value=value).claim(REPOSITORY)

    at = [each["pci_address"] for each in raw]
    assert observe_property(Facts({"gpus": raw}), "gpu", key, "setting", claim) == tuple(
        text.format(*at) for text in found
    )


# --- what runs on the host


@pytest.mark.parametrize("script", sorted((ROLE / "files").glob("*.sh")), ids=lambda path: path.name)
def test_a_script_is_shell(script):
    """
    As far as a shell can tell without running it.
    """
    assert subprocess.run(["sh", "-n", script], capture_output=True, text=True).stderr == ""


def preflight(root: Path) -> str:
    """Return why a host whose files lie below *root* takes no driver; nothing where it takes one."""
    environment = {"ROOT": str(root)}
    done = subprocess.run(["sh", ROLE / "files/preflight.sh"], capture_output=True, text=True, env=environment)
    assert bool(done.returncode) == bool(done.stderr)
    return done.stderr


def write(path: Path, content: bytes = b"", mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(mode)


def secure_boot(root: Path, on: bool) -> None:
    """Let the firmware say so: four bytes of attributes, then the value."""
    write(root / "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c", bytes([6, 0, 0, 0, on]))


def test_a_plain_host_takes_the_driver_and_so_does_one_whose_secure_boot_is_off(tmp_path):
    assert preflight(tmp_path) == ""
    secure_boot(tmp_path, on=False)
    assert preflight(tmp_path) == ""


def test_a_driver_of_nvidias_own_installer_is_in_the_way(tmp_path):
    write(tmp_path / "usr/bin/nvidia-uninstall")

    assert preflight(tmp_path).startswith("a second driver is here, of NVIDIA's own installer: run /usr/bin/nvidia-un")


def test_secure_boot_has_to_take_the_key_that_signs_modules(tmp_path):
    """
    Each step on the way there is reported; mokutil's words are those of its own source.
    """
    secure_boot(tmp_path, on=True)
    write(tmp_path / "bin/mokutil", b'#!/bin/sh\necho "$2 is not enrolled"\n', 0o755)
    assert "there is no key to sign modules with: make one with `openssl req" in preflight(tmp_path)
    write(tmp_path / "var/lib/dkms/mok.pub")
    assert "run `mokutil --import /var/lib/dkms/mok.pub`" in preflight(tmp_path)

    write(tmp_path / "bin/mokutil", b'#!/bin/sh\necho "$2 is already enrolled"\nexit 1\n', 0o755)
    assert preflight(tmp_path) == ""
