"""Undeclared things on a booted host of a twin: none after `up`, and each that people put there."""

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.support.access_rack import access, fleet
from tests.support.lab import Lab
from tests.support.log import Log

pytestmark = [
    pytest.mark.twin,
    pytest.mark.skipif(os.geteuid() != 0, reason="containers need root, and this is another account"),
]
HOST = "alpha"
LISTEN = "use IO::Socket::INET; my \\$s = IO::Socket::INET->new(Listen => 1, LocalAddr => q(0.0.0.0:4444)); sleep 9999"
CONTROL = "Package: localthing\\nVersion: 1\\nArchitecture: all\\nMaintainer: x\\nDescription: x\\n"
SEEDED = {
    "RW-001 package:localthing": f"mkdir -p /run/d/DEBIAN; printf '{CONTROL}' > /run/d/DEBIAN/control; "
    "dpkg-deb -b /run/d /run/l.deb; dpkg -i /run/l.deb",
    "RW-002 archive:http://mirror.example/debian bookworm": "echo 'deb [trusted=yes] http://mirror.example/debian "
    "bookworm main' > /etc/apt/sources.list.d/x.list",
    "RW-003 file:/etc/apt/trusted.gpg.d/x.asc": "echo key > /etc/apt/trusted.gpg.d/x.asc",
    "RW-004 file:/etc/apt/apt.conf.d/99-x": "echo '# x' > /etc/apt/apt.conf.d/99-x",
    "RW-005 hold:tar": "apt-mark hold tar",
    "RW-020 user:eve": "useradd -m -s /bin/bash eve",
    "RW-021 user:toor": "useradd -o -u 0 -M toor 2>/dev/null",
    "RW-022 group:adm/eve": "gpasswd -a eve adm",
    "RW-026 file:/etc/pam.d/su": "echo 'auth optional pam_permit.so' >> /etc/pam.d/su",
    "RW-028 user:eve": "passwd -d eve",
    "RW-030 socket:tcp:0.0.0.0:4444": f'systemd-run --unit=backdoor perl -e "{LISTEN}"',
    "RW-037 unit:backdoor.service": "true",  # the unit of the socket above
    "RW-031 unit:x.service": "printf '[Service]\\nExecStart=/bin/true\\n' > /etc/systemd/system/x.service",
    "RW-032 file:/etc/systemd/system/systemd-logind.service.d/x.conf": "install -D /dev/null "
    "/etc/systemd/system/systemd-logind.service.d/x.conf",
    "RW-033 user_unit:eve/x.timer": "install -D -o eve /dev/null /home/eve/.config/systemd/user/x.timer",
    "RW-033 linger:eve": "install -D /dev/null /var/lib/systemd/linger/eve",
    "RW-034 file:/etc/cron.d/x": "mkdir -p /etc/cron.d; echo '* * * * * root true' > /etc/cron.d/x",
    "RW-034 crontab:root": "mkdir -p /var/spool/cron/crontabs; echo '@daily true' > /var/spool/cron/crontabs/root",
    "RW-035 at:a01": "mkdir -p /var/spool/cron/atjobs; touch /var/spool/cron/atjobs/a01",
    "RW-036 file:/etc/rc.local": "echo '#!/bin/sh' > /etc/rc.local",
    "RW-042 file:/etc/sysctl.d/99-x.conf": "echo vm.swappiness=1 > /etc/sysctl.d/99-x.conf",
    "RW-043 file:/etc/udev/rules.d/99-x.rules": "echo '# x' > /etc/udev/rules.d/99-x.rules",
    "RW-060 file:/usr/local/bin/x": "install -m 4755 /bin/true /usr/local/bin/x",
    "RW-061 file:/var/lib/rackwright/owners/x.txt": "touch /var/lib/rackwright/owners/x.txt",
    "RW-094 user:toor": "true",  # its number is that of root
    "RW-080 file:/etc/subuid": "true",  # useradd gives a range to the account with the id of root as well
    "RW-080 file:/etc/subgid": "true",
}
"""By rule and thing the command that puts the thing there."""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    directory = tmp_path_factory.mktemp("undeclared")
    roles = {
        "base": {"security_updates": False},
        "access": {**access(directory / "keys"), "people": []},
        "rdma": {"unverified": "accepted"},
        "node_exporter": {},
    }
    with Lab(directory / "project", fleet([HOST], roles), Log("undeclared"), containers=[HOST], mirrors=True) as lab:
        lab.start()
        lab.up()
        yield lab


def undeclared(report: dict[str, Any]) -> dict[str, str | None]:
    """Return the reason why each undeclared thing is allowed, None for one that is not, by rule and thing."""
    assert not [item for item in report["undeclared"] if item["unknown"]]
    return {f"{item['rule']} {item['thing']}": item["allowed"] for item in report["undeclared"]}


def test_a_converged_host_has_nothing_undeclared_and_what_people_put_there_is_found(lab: Lab) -> None:
    assert undeclared(lab.audit(status=0)) == {}

    for command in SEEDED.values():
        lab.ssh(HOST, command)

    report = lab.audit(status=1)
    assert undeclared(report) == dict.fromkeys(SEEDED)
    assert [item["remedy"] for item in report["undeclared"] if not item["remedy"]] == []


def test_lines_admit_what_is_there_until_they_expire(lab: Lab) -> None:
    lab.rackwright("audit", lab.stack, "--allow", "left by the installer", status=1)

    allowed = undeclared(lab.audit(status=0))
    assert {*allowed} == {*SEEDED}
    assert all(text and text.startswith("left by the installer (") for text in allowed.values())

    yesterday = (datetime.now(UTC) - timedelta(days=1)).date().isoformat()
    lab.edit(lambda fleet: fleet["allow"][0].update(expires=yesterday))
    report = lab.audit(status=1)
    assert [name for name, text in undeclared(report).items() if text is None] == ["RW-001 package:localthing"]
    assert report["notices"]["allow[0]"].endswith(f"has expired on {yesterday}, and counts again")
