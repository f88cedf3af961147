"""Deviations and undeclared things that people may leave on the hosts of tests.support.audit_lab."""

from shlex import quote

from rackwright.core import contract
from rackwright.core.scope import rehearsable_claims
from rackwright.stack import Stack, declare
from tests.support.audit_lab import ALPHA, BETA

CONTROL = "Package: localthing\\nVersion: 1\\nArchitecture: all\\nMaintainer: x\\nDescription: x\\n"
LISTEN = "use IO::Socket::INET; my \\$s = IO::Socket::INET->new(Listen => 1, LocalAddr => q(0.0.0.0:4444)); sleep 9999"
LISTEN_UDP = (
    "use IO::Socket::INET; my \\$s = IO::Socket::INET->new(Proto => q(udp), LocalAddr => q(0.0.0.0:4445)); sleep 9999"
)
FOLLOWS = "true"
"""Command of a finding that follows from the change before it, or from one of the other host."""
RELOAD = "systemctl daemon-reload"
UNITS = "/etc/systemd/system"
DROP_IN = f"{UNITS}/systemd-logind.service.d/x.conf"
VENDOR_UNIT, LOCAL_UNIT = "vendor-x.service", "local-x.service"
VENDOR_DROP_IN = "/usr/lib/systemd/system/systemd-logind.service.d/y.conf"

NETWORK = {
    "network link:fabric0.mtu": "ip link set dev fabric0 mtu 1400",
    "peers path:beta:10.32.0.12.mtu": FOLLOWS,
    "network link:fabric0.addresses": "ip address add 10.32.0.99/24 dev fabric0",
    "network route:198.51.100.0/24.via": "ip route replace 198.51.100.0/24 via 10.32.0.7 dev fabric0",
    "network file:/etc/netplan/60-rackwright.yaml.mode": "chmod 0644 /etc/netplan/60-rackwright.yaml",
    "network file:/etc/rackwright/network.env.content": "echo GLOO_SOCKET_IFNAME=lo >> /etc/rackwright/network.env",
    "RW-050 file:/etc/systemd/network/99-x.network": "echo '[Match]' > /etc/systemd/network/99-x.network",
    "RW-052 route:203.0.113.0/24": "ip route add 203.0.113.0/24 via 10.32.0.8 dev fabric0",
}
ACCESS = {
    "access directory:/etc/ssh/sshd_config.d.names": "echo 'Match all' > /etc/ssh/sshd_config.d/99-more.conf",
    "access file:/etc/ssh/sshd_config.content": "echo 'PasswordAuthentication yes' >> /etc/ssh/sshd_config",
    "access directory:/etc/sudoers.d.names": "echo '%games ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/games",
    "access group:rackwright-operator.members": "gpasswd -a dara rackwright-operator",
    "access user:dara.groups": FOLLOWS,
    "access user:dara.shell": "usermod -s /bin/sh dara",
    "access user:olga.password": "usermod -p '$6$x$y' olga",
    "access user:workload.groups": "userdel workload",
    "access user:workload.password": FOLLOWS,
    "access user:workload.shell": FOLLOWS,
    "access file:/etc/ssh/authorized_keys.d/axel.content": "cat /etc/ssh/authorized_keys.d/olga >> "
    "/etc/ssh/authorized_keys.d/axel",
    "access directory:/etc/ssh/authorized_keys.d.names": "cp /etc/ssh/authorized_keys.d/olga "
    "/etc/ssh/authorized_keys.d/root",
    "access file:/etc/ssh/rackwright_revoked_keys.content": ": > /etc/ssh/rackwright_revoked_keys",
    "access file:/etc/ssh/rackwright_principals.content": "echo eve >> /etc/ssh/rackwright_principals",
    "access file:/etc/ssh/rackwright_ca_keys.owner": "chown games /etc/ssh/rackwright_ca_keys",
    "access authorized_keys:rackwright.added": "cat /etc/ssh/authorized_keys.d/olga >> "
    "~rackwright/.ssh/authorized_keys",
    "access directory:/var/lib/totp.mode": "chmod 0755 /var/lib/totp",
    "access file:/var/lib/totp/axel.owner": "chown axel /var/lib/totp/axel",
    "access file:/etc/pam.d/sshd.content": "sed -i s/requisite/optional/ /etc/pam.d/sshd",
    "access file:/usr/local/sbin/rackwright-probe.content": "echo 'print(1)' >> /usr/local/sbin/rackwright-probe",
    "access file:/etc/sudoers.d/10-rackwright-operator.mode": "chmod 0644 /etc/sudoers.d/10-rackwright-operator",
    "access unit:ssh.service.state": "systemctl disable ssh.service",
    "access file:/etc/audit/rules.d/50-rackwright.rules.content": "sed -i /sudo/d "
    "/etc/audit/rules.d/50-rackwright.rules",
}
BASE = {
    "base file:/etc/hostname.content": "echo other >> /etc/hostname",
    "base hostname:alpha.running": "hostname other",
    "base file:/etc/timezone.mode": "chmod 0600 /etc/timezone",
    "base file:/etc/localtime.content": "ln -sf /usr/share/zoneinfo/Europe/Paris /etc/localtime",
    "base file:/etc/default/locale.owner": "chown games:games /etc/default/locale",
    "base package:tree.installed": "dpkg --remove tree",
    "base package:iproute2.held": "apt-mark unhold iproute2",
    "base file:/etc/chrony/chrony.conf.content": "echo '# by hand' >> /etc/chrony/chrony.conf",
    "base file:/etc/chrony/chrony.keys.content": "sed -i 's/^1 .*/1 SHA256 another/' /etc/chrony/chrony.keys",
    "base file:/etc/sysctl.d/60-rackwright.conf.content": "echo >> /etc/sysctl.d/60-rackwright.conf",
    "base file:/etc/systemd/journald.conf.d/rackwright.conf.content": "rm /etc/systemd/journald.conf.d/rackwright.conf",
    "base file:/etc/systemd/journald.conf.d/rackwright.conf.mode": FOLLOWS,
    "base file:/etc/systemd/journald.conf.d/rackwright.conf.owner": FOLLOWS,
    "base file:/etc/apt/apt.conf.d/52rackwright.content": "ln -sf /dev/null /etc/apt/apt.conf.d/52rackwright",
    "base file:/etc/apt/apt.conf.d/52rackwright.mode": FOLLOWS,
}
RDMA = {
    "rdma package:perftest.installed": "apt-get -q -y purge perftest",
    "rdma file:/etc/security/limits.d/60-rackwright-rdma.conf.content": "sed -i s/unlimited/64/ "
    "/etc/security/limits.d/60-*",
    "rdma file:/etc/systemd/system.conf.d/60-rackwright-rdma.conf.content": "echo >> "
    "/etc/systemd/system.conf.d/60-rackwright-rdma.conf",
    "rdma file:/etc/default/grub.d/61-rackwright-rdma.cfg.content": ": > /etc/default/grub.d/61-rackwright-rdma.cfg",
}
EXPORTER = {
    "node_exporter file:/etc/systemd/system/rackwright-node-exporter.service.content": "sed -i s/127.0.0.1/0.0.0.0/ "
    "/etc/systemd/system/rackwright-node-exporter.service",
    "node_exporter unit:rackwright-node-exporter.service.active": "systemctl stop rackwright-node-exporter",
    "node_exporter socket:tcp:9100.addresses": FOLLOWS,
    "node_exporter file:/etc/systemd/system/prometheus-node-exporter.service.content": "rm -f "
    "/etc/systemd/system/prometheus-node-exporter.service; systemctl daemon-reload",
    "node_exporter unit:prometheus-node-exporter.service.state": FOLLOWS,
}
RUNTIME = {
    "container_runtime package:aardvark-dns.installed": "dpkg --remove --force-depends aardvark-dns",
    "container_runtime file:/etc/containers/registries.conf.d/60-rackwright.conf.content": "echo >> "
    "/etc/containers/registries.conf.d/60-rackwright.conf",
    "container_runtime unit:podman-auto-update.timer.state": "systemctl enable podman-auto-update.timer",
    "container_runtime file:/usr/local/sbin/rackwright-cdi.mode": "chmod 0644 /usr/local/sbin/rackwright-cdi",
    "container_runtime file:/etc/udev/rules.d/71-rackwright-cdi.rules.content": "echo >> "
    "/etc/udev/rules.d/71-rackwright-cdi.rules",
    "container_runtime unit:rackwright-cdi.path.active": "systemctl stop rackwright-cdi.path",
    "container_runtime file:/etc/cdi/amd.json.present": "install -D /dev/null /etc/cdi/amd.json",
}
BALANCER = {
    "peers path:alpha:10.32.0.11.mtu": FOLLOWS,
    "load_balancer file:/etc/rackwright/load_balancer/nginx.conf.content": "sed -i s/9000/9001/ "
    "/etc/rackwright/load_balancer/nginx.conf",
    "load_balancer unit:rackwright-load-balancer.service.active": "systemctl stop rackwright-load-balancer",
    "load_balancer socket:tcp:8080.addresses": FOLLOWS,
}
UNDECLARED = {
    "RW-001 package:localthing": f"mkdir -p /run/d/DEBIAN; printf '{CONTROL}' > /run/d/DEBIAN/control; "
    "dpkg-deb -b /run/d /run/l.deb; dpkg -i /run/l.deb",
    "RW-002 archive:http://mirror.example/debian bookworm": "echo 'deb [trusted=yes] http://mirror.example/debian "
    "bookworm main' > /etc/apt/sources.list.d/x.list",
    "RW-003 file:/etc/apt/trusted.gpg.d/x.asc": "echo key > /etc/apt/trusted.gpg.d/x.asc",
    "RW-004 file:/etc/apt/apt.conf.d/99-x": "echo '# x' > /etc/apt/apt.conf.d/99-x",
    "RW-004 file:/etc/apt/preferences.d/x": "echo 'Package: x' > /etc/apt/preferences.d/x",
    "RW-005 hold:tar": "apt-mark hold tar",
    "RW-020 user:eve": "useradd -m -s /bin/bash eve",
    "RW-021 user:toor": "useradd -o -u 0 -M toor 2>/dev/null",
    "RW-094 user:toor": "true",  # its number is that of root
    "RW-022 group:adm/eve": "gpasswd -a eve adm",
    "RW-026 file:/etc/pam.d/su": "echo 'auth optional pam_permit.so' >> /etc/pam.d/su",
    "RW-028 user:eve": "passwd -d eve",
    "RW-030 socket:tcp:0.0.0.0:4444": f'systemd-run --unit=backdoor perl -e "{LISTEN}"',
    "RW-037 unit:backdoor.service": FOLLOWS,
    "RW-031 unit:x.service": f"printf '[Service]\\nExecStart=/bin/true\\n' > {UNITS}/x.service",
    f"RW-032 file:{DROP_IN}": f"install -D /dev/null {DROP_IN}",
    "RW-033 user_unit:eve/x.timer": "install -D -o eve /dev/null /home/eve/.config/systemd/user/x.timer",
    "RW-033 linger:eve": "install -D /dev/null /var/lib/systemd/linger/eve",
    "RW-034 file:/etc/cron.d/x": "mkdir -p /etc/cron.d; echo '* * * * * root true' > /etc/cron.d/x",
    "RW-034 file:/etc/cron.daily/x": "echo '#!/bin/sh' > /etc/cron.daily/x",
    "RW-034 crontab:root": "mkdir -p /var/spool/cron/crontabs; echo '@daily true' > /var/spool/cron/crontabs/root",
    "RW-035 at:a01": "mkdir -p /var/spool/cron/atjobs; touch /var/spool/cron/atjobs/a01",
    "RW-036 file:/etc/rc.local": "echo '#!/bin/sh' > /etc/rc.local",
    "RW-036 file:/etc/profile.d/x.sh": "echo 'umask 0' > /etc/profile.d/x.sh",
    "RW-042 file:/etc/sysctl.d/99-x.conf": "echo vm.swappiness=1 > /etc/sysctl.d/99-x.conf",
    "RW-042 file:/etc/modprobe.d/x.conf": "echo 'blacklist x' > /etc/modprobe.d/x.conf",
    "RW-042 file:/etc/tmpfiles.d/x.conf": "echo '# x' > /etc/tmpfiles.d/x.conf",
    "RW-043 file:/etc/udev/rules.d/99-x.rules": "echo '# x' > /etc/udev/rules.d/99-x.rules",
    "RW-060 file:/usr/local/bin/x": "install -m 4755 /bin/true /usr/local/bin/x",
    "RW-061 file:/var/lib/rackwright/owners/x.txt": "touch /var/lib/rackwright/owners/x.txt",
    "RW-023 file:/etc/sudoers.d/x": "echo 'eve ALL=(ALL) ALL' > /etc/sudoers.d/x",
    "RW-024 authorized_keys:eve": "install -D -o eve -m 0600 "
    "~rackwright/.ssh/authorized_keys /home/eve/.ssh/authorized_keys",
    "RW-027 file:/etc/ssh/sshd_config.d/x.conf": "printf 'PermitRootLogin yes\\nTrustedUserCAKeys /etc/ssh/ca\\n"
    "AuthorizedPrincipalsFile /etc/ssh/names\\n' > /etc/ssh/sshd_config.d/x.conf",
    "RW-025 file:/etc/ssh/ca": "cp /etc/ssh/ssh_host_ed25519_key.pub /etc/ssh/ca",
    "RW-029 file:/etc/ssh/names": "echo eve > /etc/ssh/names",
    "RW-015 export:/srv": "echo '/srv *(rw,no_root_squash)' > /etc/exports",
    "RW-030 socket:udp:0.0.0.0:4445": f'systemd-run --unit=beacon perl -e "{LISTEN_UDP}"',
    "RW-037 unit:beacon.service": FOLLOWS,
    f"RW-031 unit:{VENDOR_UNIT}": f"echo '[Service]' > /usr/lib/systemd/system/{VENDOR_UNIT}",
    f"RW-031 unit:{LOCAL_UNIT}": f"install -D /dev/null /usr/local/lib/systemd/system/{LOCAL_UNIT}",
    f"RW-032 file:{VENDOR_DROP_IN}": f"install -D /dev/null {VENDOR_DROP_IN}",
    "RW-036 file:/etc/ssh/sshrc": "echo true > /etc/ssh/sshrc",
    "RW-036 file:/etc/kernel/postinst.d/x": "install -D /dev/null /etc/kernel/postinst.d/x",
    "RW-042 file:/usr/lib/sysctl.d/99-x.conf": "echo '# x' > /usr/lib/sysctl.d/99-x.conf",
    "RW-004 file:/etc/dpkg/dpkg.cfg.d/x": "echo '# x' > /etc/dpkg/dpkg.cfg.d/x",
    "RW-032 file:/etc/systemd/journald.conf": "echo '# x' >> /etc/systemd/journald.conf",
    "RW-036 file:/etc/ld.so.preload": ": > /etc/ld.so.preload",
    "RW-043 file:/usr/lib/udev/rules.d/99-x.rules": "echo '# x' > /usr/lib/udev/rules.d/99-x.rules",
    "RW-053 file:/etc/nftables.conf": "echo 'flush ruleset' > /etc/nftables.conf",
    "RW-062 owner:role-old": """echo '{"id": "beta/old", "fleet": "audited", "phase": "ready"}' > """
    "/var/lib/rackwright/owners/role-old.json",
    "RW-063 file:/etc/security/limits.d/x.conf": "echo '# x' > /etc/security/limits.d/x.conf",
    "RW-064 file:/etc/ld.so.conf.d/x.conf": "echo /opt/x > /etc/ld.so.conf.d/x.conf",
    "RW-065 file:/usr/local/share/ca-certificates/x.crt": "install -D /dev/null /usr/local/share/ca-certificates/x.crt",
    "RW-072 file:/etc/docker/daemon.json": "install -D /dev/null /etc/docker/daemon.json",
    "RW-122 file:/etc/nccl.conf": "echo NCCL_SOCKET_IFNAME=lo > /etc/nccl.conf",
    "RW-127 file:/etc/pip.conf": "echo '[global]' > /etc/pip.conf",
}
"""Undeclared things, on a host whose logins are not those of role access."""
SEEDED = {ALPHA: (NETWORK, ACCESS, BASE, RDMA, EXPORTER), BETA: (RUNTIME, BALANCER, UNDECLARED)}
"""By path or rule and thing the command that makes the deviation; the order is kept."""

CHANGES: dict[tuple[str, str], str] = {
    ("file", "content"): "echo '# by hand' >> {key}",
    ("file", "mode"): "chmod 0611 {key}",
    ("file", "owner"): "chown games:games {key}",
    ("user", "shell"): "usermod -s /bin/dash {key}",
    ("user", "groups"): "gpasswd -a {key} games",
    ("user", "password"): "usermod -p '$6$x$y' {key}",
    ("group", "members"): "gpasswd -a games {key}",
    ("owner", "phase"): "sed -i s/ready/creating/ /var/lib/rackwright/owners/{key}.json",
}
"""By sort of thing and property the command that changes this property alone."""
KEEPS_JSON = "echo >> {key}"
"""The change of a file in JSON: with text after it, what it says would be unknown as well."""
LOGIN = (
    "file:/etc/sudoers",
    "file:/etc/sudoers.d/",
    "user:rackwright",
    "file:/etc/ssh/sshd_config",
    "file:/etc/pam.d/",
)
"""Beginnings of the things by which the audit logs in: a change of them ends every later audit."""


Seeds = dict[str, dict[str, str]]
"""By host and finding, as `tests.support.audit_lab.findings` writes it, the command that leads to it."""


def by_hand() -> Seeds:
    """Return the seeds of the tables above, with the names of resources and hosts."""
    return {
        host: {
            f"{host}{' ' if path.startswith('RW-') else '/'}{path}": command
            for table in tables
            for path, command in table.items()
        }
        for host, tables in SEEDED.items()
    }


def generated(stack: Stack, others: Seeds) -> Seeds:
    """Return the seed of each property with a row in CHANGES, unless one of *others* changes the same thing."""
    changed = {(host, path.split(" ", 1)[1].rpartition(".")[0]) for host, paths in others.items() for path in paths}
    seeds: Seeds = {host: {} for host in stack.fleet.hosts}
    for declared in declare(stack):
        if declared.source not in seeds:  # an endpoint, which takes no commands
            continue
        claims = contract.claims(declared.kind, declared.spec, stack.repository)
        for claim in rehearsable_claims(claims, declared.spec):
            sort, _, key = claim.thing.partition(":")
            is_link = str(claim.want.get("content")).startswith("-> ")
            if (declared.source, claim.thing) in changed or claim.thing.startswith(LOGIN) or is_link:
                continue
            for name in claim.want:
                if command := CHANGES.get((sort, name)):
                    if name == "content" and key.endswith(".json"):
                        command = KEEPS_JSON
                    path = f"{declared.name} {claim.thing}.{name}"
                    seeds[declared.source][path] = command.format(key=quote(key))
    return seeds
