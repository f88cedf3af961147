"""The roles of other vendors and of RDMA: what they refuse, what they write, and what their scripts do."""

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from rackwright.kinds.role.promise import promises
from rackwright.kinds.role.refusals import refusals
from rackwright.kinds.role.spec import AboutFleet, AboutHost, RoleSpec
from tests.roles.apt import only_with_apt, priorities, setting
from tests.support.our_roles import REPOSITORY, ROLES, ROOT

DECLARED = yaml.safe_load((ROOT / "tests/kinds/vendors.yaml").read_text())["hosts"]
SOUND: dict[str, tuple[str, dict[str, Any]]] = {
    role: (host["os"], host["roles"][role])
    for host in reversed(DECLARED.values())
    for role in host["roles"]
    if role in ("rocm", "gaudi", "jetson", "ascend", "rdma")
}
"""By role the system and the variables of a sound host; of RDMA the one with DOCA."""


def files(role: str, **changes: Any) -> dict[str, str]:
    """Return what the role writes on its sound host with some variables changed."""
    system, variables = SOUND[role]
    spec = RoleSpec(
        host="alpha",
        role=role,
        identity={"serial": "S1"},
        about=AboutHost(name="alpha", os=system, profile="virtual"),
        fleet=AboutFleet(name="lab"),
        variables={**variables, **changes},
    )
    return {file.file: str(file.content) for file in promises(spec, REPOSITORY).files}


def problems_of(role: str, **changes: Any) -> list[str]:
    """Return what is wrong with the sound variables once some are changed."""
    system, variables = SOUND[role]
    given = {**variables, **changes}
    assert list(ROLES[role].problems(system, given)) == [], "each is of its type"
    return [f"{'.'.join(map(str, problem.path))}: {problem}" for problem in refusals(ROLES[role], system, given)]


def software(role: str, name: str, **changes: str) -> dict[str, str]:
    return {**SOUND[role][1][name], **changes}


@pytest.mark.parametrize("role", SOUND)
def test_what_is_sound_is_taken(role):
    assert problems_of(role) == []


PACKAGES = {role: SOUND[role][1].get("packages", {}) for role in SOUND}


@pytest.mark.parametrize(
    ("role", "changes", "words"),
    [
        ("rocm", {"version": ""}, "version: got none; a host has one release of ROCm"),
        ("rocm", {"kernel": ""}, "kernel: got none; the driver is built for one kernel"),
        ("rocm", {"kernel": "6.8.0-61-generic"}, "packages: got no linux-image-6.8.0-61-generic; driver, ROCm and"),
        ("rocm", {"repository": ""}, 'repository: got ""; a repository is the text'),
        ("rocm", {"driver_repository": ""}, 'driver_repository: got ""; a repository is the text'),
        ("rocm", {"repository_key": "rocm.gpg.key"}, 'repository_key: got "rocm.gpg.key"…; a public key begins with'),
        ("gaudi", {"version": "1.17.0"}, 'version: got "1.17.0"; all packages have the version of the build'),
        ("gaudi", {"kernel": ""}, "kernel: got none; the driver is built for one kernel"),
        ("gaudi", {"packages": {}}, "packages: got no linux-image-5.15.0-112-generic; driver and kernel are one set"),
        ("gaudi", {"packages": {**PACKAGES["gaudi"], "habanalabs-dkms": "1"}}, "packages: got habanalabs-dkms; this"),
        ("gaudi", {"repository": ""}, 'repository: got ""; a repository is the text'),
        ("gaudi", {"repository_key": ""}, 'repository_key: got ""…; a public key begins with'),
        ("jetson", {"version": "36.4"}, 'version: got "36.4"; a board has one release of L4T, like 36.4.4'),
        ("jetson", {"power_mode": -1}, "power_mode: got -1; modes start at 0"),
        ("jetson", {"packages": {}}, "cdi: got true; nvidia-container-toolkit describes the GPU"),
        ("jetson", {"cdi": False, "packages": {"nvidia-l4t-core": "1"}}, "packages: got nvidia-l4t-core; the pa"),
        ("ascend", {"version": ""}, "version: got none; a host has one release of CANN"),
        ("ascend", {"repository": ""}, "repository: got none; Huawei's files come from a folder"),
        ("ascend", {"firmware": None}, ": got no firmware; driver, firmware and toolkit belong together"),
        ("ascend", {"driver": software("ascend", "driver", file="driver.deb")}, ": got driver.deb; the file of driver"),
        ("ascend", {"driver": software("ascend", "driver", sha256="3F2A")}, ": got 3F2A; the sha256 of driver is 64"),
        (
            "ascend",
            {"toolkit": software("ascend", "toolkit", file="Ascend-cann-toolkit_8.0.RC1_linux-x86_64.run")},
            "toolkit: got files for aarch64 and x86_64; a host has one machine type",
        ),
        (
            "rdma",
            {"source": "inbox"},
            "source: got inbox together with settings of DOCA; a host has",
        ),
        ("rdma", {"packages": {"mlnx-tools": "1"}}, "packages: got mlnx-tools; DOCA for RDMA is the package doca-ofed"),
        ("rdma", {"memlock": "64G"}, 'memlock: got "64G"; a limit is `unlimited` or a number of KiB'),
    ],
)
def test_what_cannot_be_managed_is_refused_by_name(role, changes, words):
    problems = problems_of(role, **changes)

    assert problems and problems[0].startswith(words), problems


def test_the_vendors_rdma_wants_its_place_its_key_and_its_packages():
    [problem] = ROLES["rdma"].problems("debian-12", {"unverified": "accepted", "source": "doca"})

    assert "without packages, repository and repository_key" in str(problem)


@pytest.mark.parametrize(
    ("role", "system"), [("gaudi", "debian-12"), ("jetson", "ubuntu-24.04"), ("ascend", "debian-13")]
)
def test_a_system_that_the_vendor_has_nothing_for_is_refused_by_name(role, system):
    [problem] = ROLES[role].problems(system, SOUND[role][1])

    assert f"got it on {system}; role {role} supports " in str(problem)


@only_with_apt
@pytest.mark.parametrize("role", ["rocm", "gaudi", "jetson", "rdma"])
def test_apt_takes_what_is_written_for_it(role, tmp_path):
    written = files(role)

    assert priorities(written[f"/etc/apt/preferences.d/60-rackwright-{role}"], tmp_path).startswith("\n")
    if f"/etc/apt/apt.conf.d/53rackwright-{role}" in written:
        name = "Unattended-Upgrade::Package-Blacklist"
        left_alone = setting(written[f"/etc/apt/apt.conf.d/53rackwright-{role}"], name, tmp_path)
        packages = {**PACKAGES[role], **({"nvidia-l4t-core": ""} if role == "jetson" else {})}
        assert [each for each in packages if not any(re.search(pattern, each) for pattern in left_alone)] == []


def test_the_limit_is_reported_to_its_caller():
    path = "60-rackwright-rdma.conf"
    unlimited, some = files("rdma"), files("rdma", memlock="65536")

    assert unlimited[f"/etc/systemd/system.conf.d/{path}"].endswith("DefaultLimitMEMLOCK=infinity\n")
    assert some[f"/etc/systemd/system.conf.d/{path}"].endswith("DefaultLimitMEMLOCK=65536K\n")
    assert unlimited[f"/etc/security/limits.d/{path}"].splitlines()[-2:] == [
        "* - memlock unlimited",
        "root - memlock unlimited",
    ]


# --- what runs on the host


def script(path: str, *arguments: str, root: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a script of a role on the files below *root*."""
    argv = ["sh", str(ROOT / "roles" / path), *arguments]
    variables = {"PATH": f"{root}/bin:{os.environ['PATH']}", "ROOT": str(root), **environment}
    return subprocess.run(argv, capture_output=True, text=True, env=variables)


def write(path: Path, content: str = "", mode: int = 0o644) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    path.chmod(mode)
    return path


@pytest.mark.parametrize(
    ("role", "machine", "arguments", "words"),
    [
        ("rocm", "x86_64", [], ""),
        ("rocm", "aarch64", [], "AMD's packages are for x86_64, and this is aarch64"),
        ("gaudi", "x86_64", [], ""),
        ("gaudi", "aarch64", [], "Intel's packages for Gaudi are for x86_64, and this is aarch64"),
        ("jetson", "x86_64", ["36.4.4", ""], "a Jetson is aarch64, and this is x86_64"),
        ("jetson", "aarch64", ["36.4.4", ""], "there is no /etc/nv_tegra_release: this host was not flashed with L4T"),
        ("ascend", "aarch64", ["aarch64"], ""),
        ("ascend", "x86_64", ["aarch64"], "the declared files are for aarch64, and this is x86_64"),
    ],
)
def test_another_machine_is_refused_before_anything_is_changed(role, machine, arguments, words, tmp_path):
    done = script(f"{role}/files/preflight.sh", *arguments, root=tmp_path, MACHINE=machine)

    assert done.stderr.startswith(words) and bool(done.returncode) == bool(words) == bool(done.stderr)


@pytest.mark.parametrize(
    ("release", "mode", "words"),
    [
        ("36.4.4", "", ""),
        ("36.4.4", "2", ""),
        ("36.3.0", "", "this board has L4T 36.4.4, and 36.3.0 is declared: flash it, or declare what it has"),
        ("36.4.4", "7", "this board has no power mode 7: `grep POWER_MODEL"),
    ],
)
def test_a_board_has_the_release_and_the_mode_that_are_declared(release, mode, words, tmp_path):
    """
    As L4T 36.4.4 has the first line of its release, and nvpmodel's configuration its modes.
    """
    write(tmp_path / "etc/nv_tegra_release", "# R36 (release), REVISION: 4.4, GCID: 41062509, BOARD: generic\n")
    write(tmp_path / "etc/nvpmodel.conf", "< POWER_MODEL ID=0 NAME=MAXN >\n< POWER_MODEL ID=2 NAME=MODE_30W >\n")
    done = script("jetson/files/preflight.sh", release, mode, root=tmp_path, MACHINE="aarch64")

    assert done.stderr.startswith(words) and bool(done.returncode) == bool(words)


def test_software_of_amds_own_installer_is_in_the_way(tmp_path):
    write(tmp_path / "usr/bin/amdgpu-uninstall")

    assert "run /usr/bin/amdgpu-uninstall" in script("rocm/files/preflight.sh", root=tmp_path, MACHINE="x86_64").stderr


def test_the_systems_rdma_is_not_put_beside_docas(tmp_path):
    write(tmp_path / "usr/sbin/ofed_uninstall.sh")

    assert "DOCA or MLNX_OFED is here" in script("rdma/files/preflight.sh", "inbox", root=tmp_path).stderr
    assert script("rdma/files/preflight.sh", "doca", root=tmp_path).returncode == 0


OLD, NEW = "1:6.10.5.60300-2084815.22.04", "1:6.12.12.60401-2164967.22.04"


@pytest.mark.parametrize("there", [OLD, NEW, ""])
def test_an_old_amdgpu_goes_with_what_it_left_and_the_new_one_stays(there, tmp_path):
    """
    A tree that DKMS itself cannot take away goes as well: it is what keeps the next driver from being installed.
    """
    write(tmp_path / "bin/dpkg-query", f"#!/bin/sh\nprintf '{there}'\n[ -n '{there}' ]\n", 0o755)
    write(tmp_path / "bin/apt-get", f'#!/bin/sh\necho "$@" >> {tmp_path}/called\n', 0o755)
    write(tmp_path / "bin/dkms", f'#!/bin/sh\necho dkms "$@" >> {tmp_path}/called; exit 3\n', 0o755)
    trees = tmp_path / "var/lib/dkms/amdgpu"
    for version in ("6.10.5-2084815.22.04", "6.12.12-2164967.22.04"):
        write(trees / version / "source/dkms.conf")
    done = script("rocm/files/old.sh", NEW, "6.12.12-2164967.22.04", root=tmp_path)
    again = script("rocm/files/old.sh", NEW, "6.12.12-2164967.22.04", root=tmp_path)

    assert (done.returncode, done.stdout.splitlines()[-1:]) == (0, [f"{trees}/6.10.5-2084815.22.04"]), done.stderr
    assert [path.name for path in trees.iterdir()] == ["6.12.12-2164967.22.04"]
    called = (tmp_path / "called").read_text()
    assert "dkms remove amdgpu/6.10.5-2084815.22.04 --all\n" in called
    assert ("purge amdgpu-dkms" in called) == (there == OLD)
    assert again.stdout == (f"amdgpu-dkms {OLD}\n" if there == OLD else "")


@pytest.fixture
def ascend(tmp_path: Path) -> list[str]:
    """Return the arguments of the script for files that install what they are named after, and note it."""
    home, versions = (
        tmp_path / "usr/local/Ascend",
        {"driver": "23.0.0", "firmware": "7.1.0.3.220", "toolkit": "8.0.RC1"},
    )
    places = {
        "driver": (home / "driver/version.info", "Version"),
        "firmware": (home / "firmware/version.info", "Version"),
        "toolkit": (home / "ascend-toolkit/latest/aarch64-linux/ascend_toolkit_install.info", "version"),
    }
    arguments = []
    for name, (place, key) in places.items():
        text = f"mkdir -p {place.parent}; echo '{key}={versions[name]}' > {place}; echo {name} $* >> {tmp_path}/ran\n"
        arguments += [versions[name], str(write(tmp_path / f"{name}.run", text))]
    return arguments


def test_an_ascends_driver_comes_first_on_a_new_host_and_nothing_runs_twice(ascend, tmp_path):
    first = script("ascend/files/install.sh", *ascend, root=tmp_path)
    again = script("ascend/files/install.sh", *ascend, root=tmp_path)

    assert first.stdout.splitlines() == ["driver 23.0.0", "firmware 7.1.0.3.220", "toolkit 8.0.RC1"], first.stderr
    assert (tmp_path / "ran").read_text().splitlines() == [
        "driver --full --install-for-all --quiet",
        "firmware --full --quiet",
        "toolkit --install --install-for-all --quiet",
    ]
    assert (again.returncode, again.stdout) == (0, "")


def test_an_ascends_firmware_comes_first_where_there_is_a_driver(ascend, tmp_path):
    write(tmp_path / "usr/local/Ascend/driver/version.info", "Version=22.0.4\n")
    done = script("ascend/files/install.sh", *ascend, root=tmp_path)

    assert done.stdout.splitlines() == ["firmware 7.1.0.3.220", "driver 23.0.0", "toolkit 8.0.RC1"]


def test_an_installer_that_fails_stops_the_rest(ascend, tmp_path):
    write(tmp_path / "driver.run", "echo no kernel headers >&2; exit 1\n")
    done = script("ascend/files/install.sh", *ascend, root=tmp_path)

    assert (done.returncode != 0, done.stdout, done.stderr) == (True, "", "no kernel headers\n")


def test_bridges_are_switched_and_those_that_keep_it_are_named(tmp_path):
    """
    lspci and setpci stand in: a bridge that redirects, one that does not, one without, one that keeps it, and a GPU.
    """
    lines = ["00:01.0 0604: 8086:1", "00:02.0 0604: 8086:2", "00:03.0 0604: 8086:3", "00:04.0 0604: 8086:4"]
    shown = "\\n".join(f"0000:{line}" for line in [*lines, "3b:00.0 0302: 10de:20b2"])
    write(tmp_path / "bin/lspci", f"#!/bin/sh\nprintf '{shown}\\n'\n", 0o755)
    register = f"""#!/bin/sh
file={tmp_path}/$2
case $3 in
*=*) [ "$2" = 0000:00:04.0 ] || echo "${{3#*=}}" > "$file" ;;
*) cat "$file" ;;
esac
"""
    write(tmp_path / "bin/setpci", register, 0o755)
    for bridge, control in (("00:01.0", "001d"), ("00:02.0", "0000"), ("00:04.0", "001d"), ("3b:00.0", "001d")):
        write(tmp_path / f"0000:{bridge}", f"{control}\n")
    program = write(tmp_path / "rackwright-acs", files("rdma")["/usr/local/sbin/rackwright-acs"], 0o755)
    done = subprocess.run(
        [program], capture_output=True, text=True, env={"PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}
    )

    assert done.stdout == "0000:00:01.0: off, was 001d\n"
    assert done.stderr.startswith("0000:00:04.0 keeps Access Control Services on")
    assert done.returncode == 1
    assert [(tmp_path / f"0000:{each}").read_text().strip() for each in ("00:01.0", "3b:00.0")] == ["0000", "001d"]
