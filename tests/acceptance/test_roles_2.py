"""Line 2: each claim of a role is broken by hand on one host; each is found under its path, and mended."""

from collections.abc import Mapping
from typing import Any

from tests.support.acceptance import line
from tests.support.access_rack import BROKEN, PEOPLE, Rack, access, fleet
from tests.support.expect import need
from tests.support.lab import Lab, format_claims
from tests.support.log import Log

MACHINE, CONTAINER = "alpha", "beta"
"""One host is broken, with a kernel of its own, so that nothing is out of sight; the other must not be touched."""
ARCHIVE = """
mkdir -p /srv/archive && cd /srv/archive
for name in toy-plain toy-held; do
  mkdir -p $name/DEBIAN
  printf '%s\\n' "Package: $name" "Version: 1.0" "Architecture: all" \\
    "Maintainer: nobody <nobody@example.org>" "Description: toy" > $name/DEBIAN/control
  dpkg-deb --build $name >/dev/null
  cat $name/DEBIAN/control >> Packages
  printf 'Filename: ./%s.deb\\nSize: %s\\nSHA256: %s\\n\\n' $name "$(stat -c %s $name.deb)" \\
    "$(sha256sum $name.deb | cut -d ' ' -f 1)" >> Packages
done
echo 'deb [trusted=yes] file:/srv/archive ./' > /etc/apt/sources.list
"""
"""Two packages that a host can install without leaving it."""
BASE = {
    "file:/etc/hostname": "echo other >> /etc/hostname",
    "hostname:alpha": "hostname other",
    "file:/etc/timezone": "chmod 0600 /etc/timezone",
    "file:/etc/localtime": "ln -sf /usr/share/zoneinfo/Europe/Paris /etc/localtime",
    "file:/etc/default/locale": "chown games:games /etc/default/locale",
    "package:toy-plain": "dpkg --remove toy-plain",
    "package:toy-held": "apt-mark unhold toy-held",
    "file:/etc/chrony/chrony.conf": "echo '# by hand' >> /etc/chrony/chrony.conf",
    "unit:chrony.service": "systemctl disable --now chrony.service; systemctl mask chrony.service",
    "file:/etc/sysctl.d/60-rackwright.conf": "sed -i s/swappiness.*/swappiness=60/ /etc/sysctl.d/60-rackwright.conf",
    "sysctl:vm.swappiness": "sysctl -q -w vm.swappiness=61",
    "file:/etc/systemd/journald.conf.d/rackwright.conf": "rm /etc/systemd/journald.conf.d/rackwright.conf",
    "file:/etc/apt/apt.conf.d/52rackwright": "ln -sf /dev/null /etc/apt/apt.conf.d/52rackwright",
    "unit:apt-daily-upgrade.timer": "systemctl disable --now apt-daily-upgrade.timer",
}
"""By claim of the role base what breaks it."""
ACCESS = {
    **BROKEN,
    "file:/etc/audit/rules.d/50-rackwright.rules": "sed -i /sudo/d /etc/audit/rules.d/50-rackwright.rules",
    "unit:auditd.service": "systemctl disable auditd.service",
    "user:workload": "userdel workload",
    "file:/etc/sudoers.d/10-rackwright-operator": "chmod 0644 /etc/sudoers.d/10-rackwright-operator",
}


@line("roles", 2, part="base")
def test_each_broken_claim_of_the_role_base_is_found_and_mended(log: Log) -> str:
    log.empty_directory()
    with _lab(log, {"base": {"packages": ["toy-plain"], "held": ["toy-held"]}}) as lab:
        lab.start()
        for host in (MACHINE, CONTAINER):
            lab.ssh(host, f"{ARCHIVE}\napt-get -qq update\napt-get -qq install toy-held >/dev/null")
        log("up")
        lab.up()
        return _broken(lab, "base", BASE)


@line("roles", 2, part="access")
def test_each_broken_claim_of_the_role_access_is_found_and_mended(log: Log) -> str:
    keys = log.empty_directory() / "keys"
    with _lab(log, {"base": {"security_updates": False}, "access": access(keys)}) as lab:
        lab.start()
        log("up")
        lab.up(status=1)  # people have no secret yet
        waiting = {(f"{host}/access", f"file:/var/lib/totp/{name}") for host in (MACHINE, CONTAINER) for name in PEOPLE}
        found = lab.audit_differences()
        need(found == waiting, f"before anybody has enrolled, these differ: {format_claims(found)}")
        for name in PEOPLE:
            Rack(lab, keys, MACHINE).enrol(name)
        figure = _broken(lab, "access", ACCESS)
        aside = lab.ssh(MACHINE, "cat /var/lib/rackwright/aside/etc/sudoers.d/games")
        need("games" in aside, "the undeclared file of sudo is not kept aside")
        return figure


def _lab(log: Log, roles: dict[str, Any]) -> Lab:
    project = log.directory / "project"
    return Lab(project, fleet([MACHINE, CONTAINER], roles, [MACHINE]), log, containers=[CONTAINER])


def _broken(lab: Lab, role: str, broken: Mapping[str, str]) -> str:
    """Break all of it on one host, and return how it was found and mended."""
    need(not lab.differing(), "something differs right after up")
    lab.log(f"breaking {len(broken)} promises of {role}")
    lab.ssh(MACHINE, "\n".join(broken.values()))
    wanted = {(f"{MACHINE}/{role}", claim) for claim in broken}
    found = lab.differing()
    missed, more = format_claims(wanted - found), format_claims(found - wanted)
    need(found == wanted, f"not found: {missed}; found besides: {more}")
    before = _played(lab, CONTAINER)
    lab.log("up")
    lab.up()
    need(not lab.differing(), "something differs after up")
    need(_played(lab, MACHINE) > 0, f"Ansible left no trace on {MACHINE}: nobody knows about {CONTAINER}")
    need(_played(lab, CONTAINER) == before, f"{CONTAINER} was played to, and nothing differed there")
    return f"{len(broken)} broken promises of {role} found, each under its path, and mended; {CONTAINER} not touched"


def _played(lab: Lab, host: str) -> int:
    """Return how many modules Ansible ran on *host* so far: each notes itself in the journal."""
    return int(lab.ssh(host, "journalctl --quiet --output cat | grep -c 'Invoked with' || true"))
