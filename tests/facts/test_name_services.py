"""/etc/nsswitch.conf as packages leave it, and as a person changes it."""

import pytest

from rackwright.facts.probe import name_services
from rackwright.facts.probe.sources import System

PACKAGED = """\
# /etc/nsswitch.conf
passwd:         files
group:          files
shadow:         files
gshadow:        files

hosts:          files dns
networks:       files
"""
LIBRARIES = {
    "systemd": "/usr/lib/x86_64-linux-gnu/libnss_systemd.so.2",
    "myhostname": "/usr/lib/x86_64-linux-gnu/libnss_myhostname.so.2",
    "mymachines": "/usr/lib/aarch64-linux-gnu/libnss_mymachines.so.2",
    "resolve": "/usr/lib/x86_64-linux-gnu/libnss_resolve.so.2",
    "mdns4_minimal": "/lib/x86_64-linux-gnu/libnss_mdns4_minimal.so.2",
}
ALL = (*LIBRARIES,)
ACCOUNTS = {f"{name}:" + " " * (15 - len(name)) + "files": " systemd" for name in name_services.LAST["systemd"]}


def is_fine(root, packages, *edits, unpackaged=()):
    text = PACKAGED
    for old, new in edits:
        assert old in text
        text = text.replace(old, new)
    files = {name_services.PACKAGED: PACKAGED, **{LIBRARIES[each]: "" for each in (*packages, *unpackaged)}}
    for path, data in files.items():
        (root / path.lstrip("/")).parent.mkdir(parents=True, exist_ok=True)
        (root / path.lstrip("/")).write_text(data)
    owned = {name_services.PACKAGED, *(LIBRARIES[each] for each in packages)}
    return name_services.is_switch(System(str(root), owned.__contains__), name_services.PATH, text.encode())


@pytest.mark.parametrize(
    ("packages", "hosts"),
    [
        ((), "files dns"),
        (ALL, "files dns"),
        (("myhostname",), "files myhostname dns"),
        (("mymachines",), "files mymachines dns"),
        (("resolve",), "files resolve [!UNAVAIL=return] dns"),
        (("mdns4_minimal",), "files mdns4_minimal [NOTFOUND=return] dns"),
        (ALL, "files myhostname mymachines resolve [!UNAVAIL=return] dns"),
        (ALL, "files myhostname mdns4_minimal [NOTFOUND=return] mymachines resolve [!UNAVAIL=return] dns"),
    ],
)
def test_the_modules_of_installed_packages_are_no_finding(tmp_path, packages, hosts):
    assert is_fine(tmp_path, packages, ("files dns", hosts))


def test_accounts_of_systemd_are_no_finding(tmp_path):
    assert is_fine(tmp_path, ("systemd",), *((line, line + end) for line, end in ACCOUNTS.items()))


@pytest.mark.parametrize(
    ("packages", "old", "new"),
    [
        ((), "files dns", "files resolve [!UNAVAIL=return] dns"),
        (ALL, "files dns", "resolve [!UNAVAIL=return] files dns"),
        (ALL, "files dns", "files resolve dns"),
        (ALL, "files dns", "files resolve [!UNAVAIL=continue] dns"),
        (ALL, "files dns", "files mymachines mymachines dns"),
        (ALL, "files dns", "files dns myhostname"),
        (ALL, "files dns", "myhostname files dns"),
        (ALL, "files dns", "files evil dns"),
        (ALL, "files dns", "files"),
        (ALL, "files dns", "dns files"),
        (ALL, "networks:       files", "networks:       files systemd"),
        ((), "shadow:         files\ng", "shadow:         files systemd\ng"),
        (ALL, "passwd:         files", "passwd:         systemd files"),
        (ALL, "passwd:         files", "passwd:         files compat"),
        (ALL, "passwd:         files", "passwd:         files systemd evil"),
        (ALL, "# /etc/nsswitch.conf", "passwd: evil"),
        (ALL, "networks:       files\n", "networks:       files\nsudoers: evil\n"),
    ],
)
def test_a_module_of_a_person_is_found(tmp_path, packages, old, new):
    assert not is_fine(tmp_path, packages, (old, new))


def test_a_library_of_a_person_adds_no_module(tmp_path):
    edit = ("files dns", "files mymachines dns")
    assert not is_fine(tmp_path, (), edit, unpackaged=("mymachines",))


def test_without_the_packaged_file_nothing_passes(tmp_path):
    assert not name_services.is_switch(System(str(tmp_path), lambda path: False), name_services.PATH, b"")
