"""dpkg's own database: what changes there after an installation, and that an installation changes nothing."""

import os
from typing import Any

import pytest

from rackwright.facts.probe import missing, package_database
from tests.support.fabricated_machine import FabricatedMachine

INFO = "var/lib/dpkg/info"
DPKG = "Package: dpkg\nStatus: install ok installed\nArchitecture: amd64\n\n"
TOOL = "Package: tool\nStatus: install ok installed\nArchitecture: amd64\nMulti-Arch: same\n\n"
HOUR = 3600 * 10**9
FILES = ("tool.list", "tool.md5sums", "tool.postinst", "tool.conffiles")


def status(ctime: int, mtime: int, mode: int = 0o100644, uid: int = 0) -> os.stat_result:
    """Return a status with these times, in hours."""
    return os.stat_result(
        (mode, 1, 1, 1, uid, 0, 1, 0, mtime * 3600, ctime * 3600),
        {"st_ctime_ns": ctime * HOUR, "st_mtime_ns": mtime * HOUR},
    )


def changed(**files: tuple[int, ...]) -> list[str]:
    return sorted(kind for kind, _ in package_database.changes({kind: status(*each) for kind, each in files.items()}))


INSTALLED = {"list": (100, 100), "md5sums": (100, 10), "postinst": (100, 10, 0o100755), "conffiles": (100, 10)}


def test_a_package_as_dpkg_installed_it_has_no_changes():
    assert changed(**INSTALLED) == []


def test_a_copied_system_has_no_changes():
    """All files have the time of the copy, or those of their content where a filesystem keeps no other."""
    assert changed(list=(500, 100), md5sums=(500, 10), postinst=(500, 10)) == []
    assert changed(list=(100, 100), md5sums=(10, 10), postinst=(10, 10)) == []


@pytest.mark.parametrize(
    ("kind", "times"),
    [
        ("postinst", (200, 200, 0o100755)),
        ("postinst", (200, 10, 0o100755)),  # with the time of the package put back
        ("md5sums", (200, 200)),
        ("conffiles", (102, 102)),
        ("prerm", (300, 300, 0o100755)),
        ("md5sums", (100, 10, 0o100666)),
        ("postinst", (100, 10, 0o100755, 1000)),
        ("postinst", (100, 10, 0o120777)),
        ("evil", (100, 10, 0o100755)),
    ],
)
def test_a_file_that_changed_after_the_installation_is_named(kind, times):
    assert changed(**{**INSTALLED, kind: times}) == [kind]


@pytest.fixture
def machine(tmp_path):
    machine = FabricatedMachine(tmp_path)
    machine.write("var/lib/dpkg/status", DPKG + TOOL)
    for name in ("dpkg.list", *FILES):
        machine.write(f"{INFO}/{name}", "/.\n")
    machine.write(f"{INFO}/format", "1\n")
    return machine


def found(machine: FabricatedMachine) -> dict[str, Any]:
    return {key: value for key, value in package_database.package_database(machine.top).items() if value}


def test_a_database_as_dpkg_wrote_it_has_nothing_odd(machine):
    assert found(machine) == {}


@pytest.mark.parametrize(
    ("name", "reason"),
    [("evil.list", "not installed"), ("evil", "no package"), ("tool:i386.list", "not installed")],
)
def test_a_list_of_no_package_is_named(machine, name, reason):
    machine.write(f"{INFO}/{name}", "/usr/bin/evil\n")

    assert [reason in text for text in found(machine)["altered_files"].values()] == [True]


def test_a_package_without_its_list_is_named(machine):
    (machine.root / INFO / "tool.list").unlink()

    assert [*found(machine)["altered_files"]] == ["/var/lib/dpkg/info/tool.list"]


@pytest.mark.parametrize(
    "state", ["deinstall ok installed", "install ok half-installed", "install reinstreq installed"]
)
def test_a_package_in_an_odd_state_is_named(machine, state):
    machine.write("var/lib/dpkg/status", DPKG + TOOL.replace("install ok installed", state))

    assert found(machine)["odd_states"] == {"tool": state, "tool:amd64": state}


@pytest.mark.parametrize("state", ["deinstall ok config-files", "unknown ok not-installed", "hold ok installed"])
def test_a_package_that_is_gone_or_held_is_in_no_odd_state(machine, state):
    machine.write("var/lib/dpkg/status", DPKG + TOOL.replace("install ok installed", state))

    assert "odd_states" not in found(machine)


def test_diversions_of_persons_are_named(machine):
    rows = ("/usr/bin/a", "/usr/bin/a.tool", "tool", "/usr/bin/b", "/usr/bin/b.distrib", ":")
    machine.write("var/lib/dpkg/diversions", "\n".join((*rows, "/usr/bin/c", "/usr/bin/c.x", "gone", "")))

    assert found(machine)["diversions"] == [
        {"path": "/usr/bin/b", "to": "/usr/bin/b.distrib", "by": "a person"},
        {"path": "/usr/bin/c", "to": "/usr/bin/c.x", "by": "gone"},
    ]


def test_the_list_of_a_package_may_change_later():
    """dpkg writes it again when another package takes a file of it."""
    assert changed(**{**INSTALLED, "list": (200, 200)}) == []


def test_rights_that_the_script_of_a_package_sets_are_its_own(machine):
    script = "#!/bin/sh\ndpkg-statoverride --update --add tool tool 0750 /var/lib/tool\n"
    machine.write("var/lib/dpkg/info/tool.postinst", script)
    machine.write("var/lib/dpkg/statoverride", "tool tool 0750 /var/lib/tool\ntool eve 0750 /var/lib/tool/more\n")

    assert [*found(machine)["rights"]] == ["/var/lib/tool/more"]


SCRIPT = """#!/bin/sh
for d in /var/lib/chrony /var/log/chrony; do
    if ! dpkg-statoverride --list "$d" >/dev/null; then
        dpkg-statoverride --update --add _chrony _chrony 0750 "$d"
    fi
done
"""


@pytest.mark.parametrize(
    ("line", "is_set"),
    [
        ("_chrony _chrony 750 /var/lib/chrony", True),
        ("_chrony _chrony 0750 /var/log/chrony", True),
        ("_chrony root 750 /var/lib/chrony", False),
        ("_chrony _chrony 770 /var/lib/chrony", False),
        ("_chrony _chrony 750 /bin/sh", False),  # the interpreter of the script
        ("_chrony _chrony 750 /var/lib", False),
    ],
)
def test_a_command_of_a_script_sets_its_own_paths_and_rights(line, is_set):
    assert package_database.is_set_by(SCRIPT, line.split()) is is_set


def test_rights_that_a_person_set_are_named(machine):
    machine.write("var/lib/dpkg/statoverride", "root ssl-cert 710 /etc/ssl/private\nroot eve 4750 /usr/bin/my tool\n")

    assert found(machine)["rights"] == {
        "/etc/ssl/private": {"mode": "0710", "owner": "root:ssl-cert"},
        "/usr/bin/my tool": {"mode": "4750", "owner": "root:eve"},
    }


ALTERNATIVE = (
    "{mode}\n/usr/bin/editor\neditor.1\n/usr/share/man/editor.1\n\n/usr/bin/nano\n40\n/m1\n/usr/bin/vim\n50\n/m2\n\n"
)


@pytest.mark.parametrize(
    ("mode", "target", "is_found"),
    [
        ("auto", "/usr/bin/vim", False),
        ("manual", "/usr/bin/vim", False),
        ("auto", "/usr/bin/nano", True),
        ("manual", "/usr/bin/nano", True),
        ("manual", "/tmp/evil", True),
        ("auto", None, True),
    ],
)
def test_a_choice_other_than_the_best_is_named(machine, mode, target, is_found):
    machine.write("var/lib/dpkg/alternatives/editor", ALTERNATIVE.format(mode=mode))
    link = machine.root / "etc/alternatives/editor"
    link.parent.mkdir(parents=True)
    if target:
        link.symlink_to(target)
    rows = found(machine).get("choices", {})

    assert rows == ({"editor": {"mode": mode, "target": target or "", "best": "/usr/bin/vim"}} if is_found else {})


@pytest.mark.parametrize("text", ["auto\n", "what\n/usr/bin/x\n\n/a\n1\n\n", "auto\n/usr/bin/x\n\n/a\nb\n\n"])
def test_a_choice_of_another_form_is_unknown(machine, text):
    machine.write("var/lib/dpkg/alternatives/x", text)

    assert [*found(machine)["choices"]["x"]] == ["unknown"]


def test_files_that_dpkg_leaves_out_are_not_missing(machine):
    machine.write("etc/dpkg/dpkg.cfg.d/docker", "path-exclude /usr/share/x/*\npath-include=/usr/share/x/keep/*\n")
    paths = [b"/usr/share/x/a", b"/usr/share/x/keep/a", b"/usr/share/man/man1/a.1", b"/usr/bin/a"]

    assert [*missing.confirm(machine.top, paths)] == [b"/usr/bin/a", b"/usr/share/x/keep/a"]


@pytest.mark.parametrize("few", [0, 500])
def test_missing_files_are_found_with_few_and_with_many_directories(monkeypatch, few):
    monkeypatch.setattr(missing, "FEW", few)
    content = b"\n/usr/bin\n/usr/bin/a\n/usr/bin/b\n/usr/lib/x/c\n/etc/d\n/usr/bin/sub/e\n"
    found = missing.Missing("", [b"/usr/bin", b"/etc"], {b"/usr/bin", b"/usr/bin/a"})

    assert [*found.of_list(content, content.split(b"\n"))] == [b"/usr/bin/b"]


@pytest.mark.parametrize(
    ("path", "mode", "lacks"),
    [
        (b"/usr/bin/ls", 0o100755, False),
        (b"/usr/bin/ls", 0o100644, True),
        (b"/usr/bin/ls", 0o100700, True),
        (b"/usr/bin/su", 0o104755, False),
        (b"/usr/lib/x.so", 0o100644, False),
        (b"/usr/lib/x.so", 0o100600, True),
        (b"/usr/lib/systemd/systemd", 0o100644, True),
        (b"/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2", 0o100644, True),
        (b"/usr/share/nginx/html/index.html", 0o100600, True),
        (b"/usr/share/nginx", 0o040700, True),
        (b"/usr/share/nginx", 0o040755, False),
        (b"/usr/bin/x", 0o120777, False),
    ],
)
def test_lost_rights_are_found(path, mode, lacks):
    assert missing.lacks_rights(path, status(1, 1, mode)) == lacks
