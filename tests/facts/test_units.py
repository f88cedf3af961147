"""Units, against systemctl: what it prints of a running systemd, and what it says about unit files itself."""

import shutil
import subprocess

import pytest

from rackwright.facts.probe import units as probe
from rackwright.facts.probe.observe import ReadError

ETC, VENDOR = "etc/systemd/system", "usr/lib/systemd/system"
SERVICE = "[Service]\nExecStart=/bin/true\n"
WANTED = f"{SERVICE}[Install]\nWantedBy=multi-user.target\n"
MOUNT = "[Mount]\nWhat=UUID=1\nWhere=/srv/hot\n[Install]\nWantedBy=local-fs.target\n"

FILES = {
    f"{VENDOR}/static.service": SERVICE,
    f"{VENDOR}/disabled.service": WANTED,
    f"{VENDOR}/enabled.service": WANTED,
    f"{VENDOR}/required.service": "[Install]\nRequiredBy=multi-user.target\n",
    f"{VENDOR}/overridden.service": SERVICE,
    f"{ETC}/overridden.service": WANTED,
    f"{VENDOR}/masked.service": WANTED,
    f"{VENDOR}/emptied.service": WANTED,
    f"{ETC}/emptied.service": "",
    f"{VENDOR}/real.service": f"{SERVICE}[Install]\nAlias=named.service\n",
    f"{VENDOR}/unnamed.service": f"{SERVICE}[Install]\nAlias=other.service\n",
    f"{VENDOR}/also.service": f"{SERVICE}[Install]\nAlso=enabled.service\n",
    f"{VENDOR}/getty@.service": f"{SERVICE}[Install]\nWantedBy=getty.target\nDefaultInstance=tty1\n",
    f"{VENDOR}/idle@.service": WANTED,
    f"{VENDOR}/vendor-wanted.service": SERVICE,
    f"{ETC}/srv-hot.mount": MOUNT,
    f"{ETC}/srv-warm.mount": MOUNT.replace("hot", "warm"),
    f"{VENDOR}/multi-user.target": "[Unit]\n",
    f"{VENDOR}/local-fs.target": "[Unit]\n",
    f"{VENDOR}/getty.target": "[Unit]\n",
    "opt/own/linked.service": SERVICE,
    f"{ETC}/unit.txt": "no unit\n",
}
LINKS = {
    f"{ETC}/multi-user.target.wants/enabled.service": f"/{VENDOR}/enabled.service",
    f"{ETC}/multi-user.target.requires/required.service": f"/{VENDOR}/required.service",
    f"{ETC}/masked.service": "/dev/null",
    f"{ETC}/named.service": f"/{VENDOR}/real.service",
    f"{ETC}/getty.target.wants/getty@tty1.service": f"/{VENDOR}/getty@.service",
    f"{VENDOR}/multi-user.target.wants/vendor-wanted.service": "../vendor-wanted.service",
    f"{ETC}/local-fs.target.wants/srv-hot.mount": f"/{ETC}/srv-hot.mount",
    f"{ETC}/linked.service": "/opt/own/linked.service",
}


@pytest.fixture
def root(tmp_path):
    for path, content in FILES.items():
        place = tmp_path / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(content)
    for path, target in LINKS.items():
        place = tmp_path / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(target)
    return tmp_path


def test_what_is_enabled_is_what_systemctl_says(root):
    if not shutil.which("systemctl"):
        pytest.skip("needs systemctl")
    argv = ["systemctl", f"--root={root}", "list-unit-files", "--no-legend", "--full", "--no-pager"]
    printed = subprocess.run(argv, check=True, capture_output=True, text=True).stdout

    assert probe.unit_file_states(str(root)) == {line.split()[0]: line.split()[1] for line in printed.splitlines()}


def test_generated_and_transient_units_are_called_so(root):
    for folder, name in (("generator", "a.mount"), ("generator.late", "b.service"), ("transient", "c.service")):
        place = root / "run/systemd" / folder / name
        place.parent.mkdir(parents=True)
        place.write_text(SERVICE)

    found = probe.unit_file_states(str(root))

    assert (found["a.mount"], found["b.service"], found["c.service"]) == ("generated", "generated", "transient")


LISTED = """\
UNIT                     LOAD      ACTIVE   SUB     DESCRIPTION
enabled.service          loaded    active   running A unit that runs
srv-gone.mount           loaded    active   mounted A mount without a file
transient.service        loaded    active   running /usr/bin/sh -c "
until grep -qx idle sync_action
done
"
missing.service          not-found inactive dead    missing.service

LOAD   = Reflects whether the unit definition was properly loaded.
ACTIVE = The high-level unit activation state, i.e. generalization of SUB.
SUB    = The low-level unit activation state, values depend on unit type.

4 loaded units listed.
To show all installed unit files use 'systemctl list-unit-files'.
"""
SHOWN = "Id=srv-hot.mount\nLoadState=loaded\n\nId=srv-warm.mount\nLoadState=bad-setting\n"


@pytest.fixture
def systemctl(monkeypatch):
    """Answer as systemctl does, and keep what was asked."""
    asked = []

    def answer(*argv):
        asked.append(argv)
        return {"list-units": LISTED, "show": SHOWN}[argv[1]]

    monkeypatch.setattr(probe, "run_tool", answer)
    return asked


def test_units_in_memory_and_units_with_only_a_file_are_both_there(root, systemctl):
    found = probe.units(str(root))

    assert found["enabled.service"] == {"load": "loaded", "active": "active", "enabled": "enabled"}
    assert found["srv-gone.mount"] == {"load": "loaded", "active": "active", "enabled": ""}
    assert found["missing.service"]["load"] == "not-found"
    assert found["transient.service"]["active"] == "active"
    assert all(probe.UNIT.fullmatch(name) for name in found), "a command may be all of a description, in many lines"
    assert found["masked.service"] == {"load": "masked", "active": "inactive", "enabled": "masked"}
    assert found["disabled.service"]["load"] == {"unknown": "not in memory"}


def test_mounts_of_the_administrator_are_loaded_to_learn_whether_they_are_good(root, systemctl):
    found = probe.units(str(root))

    assert [argv[-2:] for argv in systemctl if argv[1] == "show"] == [("srv-hot.mount", "srv-warm.mount")]
    assert found["srv-hot.mount"] == {"load": "loaded", "active": "inactive", "enabled": "enabled"}
    assert found["srv-warm.mount"] == {"load": "bad-setting", "active": "inactive", "enabled": "disabled"}


def test_without_systemd_no_unit_is_known(root, monkeypatch):
    def refuse(*argv):
        raise ReadError("systemctl ended with 1: System has not been booted with systemd")

    monkeypatch.setattr(probe, "run_tool", refuse)

    with pytest.raises(ReadError, match="not been booted"):
        probe.units(str(root))


@pytest.mark.parametrize(("uptime", "asked"), [("31.20 9.00", True), ("601.00 3.00", False)])
def test_a_host_that_has_just_been_switched_on_is_waited_for(uptime, asked, tmp_path, monkeypatch):
    """
    What it will have is not all there before.
    """
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/uptime").write_text(f"{uptime}\n")
    ran = []
    monkeypatch.setattr(probe.subprocess, "run", lambda argv, **how: ran.append((argv, how["timeout"])))

    probe.wait_for_boot(str(tmp_path))

    assert ran == [(("systemctl", "is-system-running", "--wait"), probe.START_SECONDS)] * asked


# --- what changes a unit beside its own file


@pytest.fixture
def fresh(monkeypatch):
    """Let systemd have read all files, but those of the units in the list."""
    stale: list[str] = []

    def show(*argv):
        names = argv[argv.index("--") + 1 :]
        return "\n".join(f"Id={name}\nNeedDaemonReload={'yes' if name in stale else 'no'}\n" for name in names)

    monkeypatch.setattr(probe, "run_tool", show)
    return stale


def test_units_that_are_as_their_files_say_have_no_overrides(root, fresh):
    assert probe.overrides(str(root)) == {"overridden.service": [f"/{ETC}/overridden.service"]}


@pytest.mark.parametrize(
    ("path", "unit"),
    [
        (f"{ETC}/enabled.service.d/a.conf", "enabled.service"),
        ("run/systemd/system/enabled.service.d/a.conf", "enabled.service"),
        ("run/systemd/generator/srv-hot.mount.d/a.conf", "srv-hot.mount"),
        ("run/systemd/generator.early/srv-hot.mount", "srv-hot.mount"),
        ("run/systemd/transient/enabled.service.d/a.conf", "enabled.service"),
        ("etc/systemd/system.control/enabled.service.d/50-CPUQuota.conf", "enabled.service"),
        ("run/systemd/system.control/enabled.service", "enabled.service"),
        (f"{VENDOR}/srv-hot.mount.d/a.conf", "srv-hot.mount"),
        (f"{ETC}/srv-.mount.d/a.conf", "srv-hot.mount"),
        (f"{ETC}/mount.d/a.conf", "srv-hot.mount"),
        (f"{ETC}/getty@.service.d/a.conf", "getty@.service"),
        (f"{ETC}/getty@tty1.service.d/a.conf", "getty@tty1.service"),
        (f"{ETC}/named.service.d/a.conf", "real.service"),
    ],
)
def test_what_changes_a_unit_is_found_wherever_systemd_reads_it(root, fresh, path, unit):
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text("[Service]\nNice=5\n")

    assert probe.overrides(str(root))[unit] == [f"/{path}"]


@pytest.mark.parametrize("path", [f"{VENDOR}/enabled.service.d/a.conf", f"{VENDOR}/service.d/10-timeout.conf"])
def test_what_a_distribution_says_of_its_own_units_is_no_override(root, fresh, path):
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text("[Service]\nNice=5\n")

    assert probe.overrides(str(root)).keys() == {"overridden.service"}


def test_a_unit_that_systemd_has_read_before_its_file_was_changed_is_found(root, fresh):
    fresh.append("srv-hot.mount")

    assert probe.overrides(str(root))["srv-hot.mount"] == [probe.STALE]
