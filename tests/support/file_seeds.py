"""Changes of files by hand on a Debian system, each with what an audit has to say, and changes that packages make."""


def _add(path: str, text: str) -> str:
    return f"mkdir -p $(dirname {path}) && printf '%s\\n' '{text}' >> {path}"


TRUSTED = {
    "file:/etc/default/chrony": ("RW-083", _add("/etc/default/chrony", 'DAEMON_OPTS="-F 0 -f /tmp/x.conf"')),
    "file:/etc/default/ssh": ("RW-083", _add("/etc/default/ssh", 'SSHD_OPTS="-o PermitRootLogin=yes"')),
    "file:/etc/pam.d/common-account": (
        "RW-080",
        "sed -i '1i account sufficient pam_permit.so' /etc/pam.d/common-account",
    ),
    "file:/etc/pam.d/common-session": ("RW-080", _add("/etc/pam.d/common-session", "session required pam_unix.so")),
    "file:/etc/hosts": ("RW-080", _add("/etc/hosts", "203.0.113.9 mirror.example gpu-02")),
    "file:/etc/environment": ("RW-080", _add("/etc/environment", "LD_PRELOAD=/usr/lib/x.so")),
    "file:/etc/default/locale": ("RW-080", _add("/etc/default/locale", "LD_LIBRARY_PATH=/tmp")),
    "file:/etc/nsswitch.conf": ("RW-080", "sed -i 's/^hosts:.*/hosts: dns files/' /etc/nsswitch.conf"),
    "file:/etc/login.defs": ("RW-083", _add("/etc/login.defs", "ENCRYPT_METHOD MD5")),
    "file:/etc/sudo.conf": ("RW-083", _add("/etc/sudo.conf", "Plugin sudoers_policy /tmp/x.so")),
    "file:/etc/gai.conf": ("RW-083", _add("/etc/gai.conf", "precedence ::ffff:0:0/96 100")),
    "file:/etc/chrony/sources.d/x.sources": (
        "RW-080",
        _add("/etc/chrony/sources.d/x.sources", "server 203.0.113.9 trust"),
    ),
    "file:/etc/hosts.allow": ("RW-080", _add("/etc/hosts.allow", "ALL: 203.0.113.9")),
    "file:/etc/shells": ("RW-080", _add("/etc/shells", "/tmp/sh")),
    "file:/etc/subuid": ("RW-080", _add("/etc/subuid", "rackwright:0:65536")),
    "file:/etc/alternatives/pager": ("RW-080", "ln -sf /usr/local/bin/x /etc/alternatives/pager"),
    "file:/usr/local/bin/python3": ("RW-080", _add("/usr/local/bin/python3", "#!/bin/sh")),
    "file:/usr/local/sbin/chronyc": ("RW-080", _add("/usr/local/sbin/chronyc", "#!/bin/sh")),
    "file:/usr/bin/last": (
        "RW-080",
        "dpkg-divert --quiet --local --rename --add /usr/bin/last && cp /usr/bin/last.distrib /usr/bin/last",
    ),
    "file:/usr/sbin/sshd": ("RW-081", "printf x >> /usr/sbin/sshd"),
    "file:/usr/lib/python3.11/json/__init__.py": ("RW-081", "printf '#\\n' >> /usr/lib/python3.11/json/__init__.py"),
    "file:/usr/bin/rbash": ("RW-081", "ln -sf /opt/sh /usr/bin/rbash"),
}
"""What declared things trust: by what is to be found, the rule and the command that puts it there."""
PLACES = {
    f"file:{path}": ("RW-080", _add(path, "# x"))
    for path in (
        "/run/systemd/system/chrony.service.d/x.conf",
        "/run/systemd/system/x.service",
        "/run/systemd/system.control/chrony.service.d/50-x.conf",
        "/run/systemd/user/x.service",
        "/run/systemd/resolved.conf.d/x.conf",
        "/run/systemd/generator/x.service",
        "/run/udev/rules.d/99-x.rules",
        "/run/sysctl.d/x.conf",
        "/run/modprobe.d/x.conf",
        "/run/tmpfiles.d/x.conf",
        "/run/sysusers.d/x.conf",
        "/run/binfmt.d/x.conf",
        "/run/polkit-1/rules.d/x.rules",
        "/run/NetworkManager/conf.d/x.conf",
        "/etc/sysusers.d/x.conf",
        "/etc/kernel/cmdline",
        "/usr/lib/sysusers.d/x.conf",
        "/usr/lib/environment.d/x.conf",
        "/usr/lib/kernel/install.d/x.install",
        "/usr/lib/x86_64-linux-gnu/security/pam_x.so",
        "/usr/lib/python3/dist-packages/x.pth",
        "/usr/local/lib/python3.11/dist-packages/sitecustomize.py",
        "/usr/share/pam-configs/x",
        "/usr/share/polkit-1/actions/x.policy",
        "/boot/grub/custom.cfg",
        "/var/spool/x",
    )
}
"""The same settings in other places."""


def _xattr(path: str, name: str, value: str) -> str:
    return f"""python3 -c 'import os; os.setxattr("{path}", "{name}", bytes.fromhex("{value}"))'"""


ACL = "0200000001000700ffffffff0200060001000000" + "04000500ffffffff10000700ffffffff20000500ffffffff"
"""An access list that lets account 1 read and write. Source: linux/posix_acl_xattr.h."""
ACCESS, DEFAULT = "system.posix_acl_access", "system.posix_acl_default"
RIGHTS = {
    "file:/usr/bin/python3.11": ("RW-082", "setcap cap_setuid=ep /usr/bin/python3.11"),
    "file:/usr/bin/tar": ("RW-082", "setcap cap_dac_read_search=ep /usr/bin/tar"),
    "file:/usr/bin/ping": ("RW-082", "setcap cap_net_raw,cap_net_admin=ep /usr/bin/ping"),
    "directory:/etc/ssh": ("RW-082", _xattr("/etc/ssh", ACCESS, ACL)),
    "directory:/etc/apt/apt.conf.d": ("RW-082", _xattr("/etc/apt/apt.conf.d", DEFAULT, ACL)),
    "directory:/usr/lib/systemd/system": ("RW-082", _xattr("/usr/lib/systemd/system", ACCESS, ACL)),
    "file:/etc/shadow": ("RW-082", _xattr("/etc/shadow", ACCESS, ACL)),
    "file:/usr/bin/find": ("RW-082", "chmod u+s /usr/bin/find"),
    "file:/usr/bin/sort": ("RW-082", "chmod g+s /usr/bin/sort"),
    "file:/usr/bin/ls": ("RW-082", "chmod o+w /usr/bin/ls"),
    "file:/etc/login.defs": ("RW-082", "chown daemon /etc/login.defs"),
    "directory:/usr/lib/python3/dist-packages": ("RW-082", "chmod g+w /usr/lib/python3/dist-packages"),
    "directory:/etc/profile.d": ("RW-082", "chown daemon:daemon /etc/profile.d"),
    "directory:/usr/local/bin": ("RW-082", "chmod 1777 /usr/local/bin"),
}
"""Rights that no set-uid bit of a file in /etc or /usr/local gives."""
PACKAGE = r"""
mkdir -p /tmp/p/DEBIAN /tmp/p/etc/helper.d /tmp/p/usr/lib/systemd/system /tmp/p/usr/bin
mkdir -p /tmp/p/usr/lib/python3/dist-packages
printf 'option = %s\n' "$1" > /tmp/p/etc/helper.d/main.conf
printf '[Service]\nExecStart=/usr/bin/helper\n[Install]\nWantedBy=multi-user.target\nAlias=help.service\n' \
  > /tmp/p/usr/lib/systemd/system/helper.service
printf '#!/bin/sh\n# %s\n' "$1" > /tmp/p/usr/bin/helper
chmod 755 /tmp/p/usr/bin/helper
printf 'x = %s\n' "$1" > /tmp/p/usr/lib/python3/dist-packages/helper.py
printf '/etc/helper.d/main.conf\n' > /tmp/p/DEBIAN/conffiles
printf 'Package: helper\nVersion: %s\nArchitecture: all\nMaintainer: x <x@example.org>\nDescription: x\n' "$1" \
  > /tmp/p/DEBIAN/control
printf '#!/bin/sh\nset -e\ndeb-systemd-helper enable helper.service\npy3compile -p helper || true\n' \
  > /tmp/p/DEBIAN/postinst
printf '#!/bin/sh\npy3clean -p helper\n' > /tmp/p/DEBIAN/prerm
chmod 755 /tmp/p/DEBIAN/postinst /tmp/p/DEBIAN/prerm
(cd /tmp/p && find usr -type f -exec md5sum {} + > DEBIAN/md5sums)
dpkg-deb --root-owner-group --build /tmp/p /tmp/helper-"$1".deb > /dev/null
dpkg --force-confnew --install /tmp/helper-"$1".deb > /dev/null
"""
"""Shell lines that build and install version $1 of a package with a configuration file, a unit and a module."""
SILENT = {
    "a package is installed, and enables its unit": f"set -- 1\n{PACKAGE}",
    "its upgrade replaces a changed configuration file": (
        f"printf 'mine\\n' > /etc/helper.d/main.conf\nset -- 2\n{PACKAGE}"
    ),
    "a package is removed, and its configuration stays": "dpkg --remove helper > /dev/null",
    "the index of libraries is written": "ldconfig",
    "Python compiles packaged modules": "python3 -m compileall -q /usr/lib/python3 /usr/lib/python3.11/json",
    "a program runs the first time": "python3 -c 'import json.tool, http.server, sqlite3'",
    "the machine gets its identity and its keys": "rm -f /etc/machine-id; systemd-machine-id-setup; ssh-keygen -A",
    "systemd makes its files and accounts": "systemd-sysusers; systemd-tmpfiles --create 2> /dev/null || true",
    "an operator enables a packaged unit": "systemctl --quiet disable ssh; systemctl --quiet enable ssh",
    "pam-auth-update writes PAM's files again": "pam-auth-update --package",
    "alternatives are chosen by their priority": "update-alternatives --quiet --auto pager",
    "locales are generated": "locale-gen > /dev/null",
    "the rules of the audit are merged": "augenrules > /dev/null || true",
    "the time zone is another packaged one": "ln -sf /usr/share/zoneinfo/Europe/Berlin /etc/localtime",
    "a password changes": "passwd --quiet --lock daemon",
    "the caches of apt are written": "apt-cache gencaches",
    "a packaged file is written again as it was": "cp -p /usr/bin/ls /tmp/ls; cat /tmp/ls > /usr/bin/ls",
    "a unit of a package is masked": "ln -sf /dev/null /etc/systemd/system/fstrim.service",
    "a file is touched": "touch /usr/bin/sort /etc/login.defs",
}
"""Changes that no rule reports."""
