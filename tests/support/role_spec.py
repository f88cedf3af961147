"""A role as it is declared and as it is found."""

from rackwright.core.repository import Repository, RoleSource
from rackwright.kinds.role.spec import AboutFleet, AboutHost, RoleSpec

MOTD = "Welcome to alpha of lab, {{ not for jinja }}\n"
CLAIMS = (
    {"file": "/etc/motd", "mode": "0640"},
    {"file": "/etc/issue", "content": "{{ toy_issue }}", "when": "toy_issue"},
    {"package": "{{ item }}", "held": True, "each": "{{ toy_packages }}"},
    {"unit": "{{ toy_service }}"},
    {"directory": "/etc/toy.d", "only": ["a"]},
    {"absent": "/etc/toy.old"},
    {"sysctl": "vm.swappiness", "value": 10},
    {"user": "toy", "groups": ["games", "toy"], "password": "locked"},
    {"socket": "tcp:22"},
    {"fact": "chrony.offset_seconds", "below": "{{ toy_offset }}"},
)
SOURCE = RoleSource(
    "toy",
    defaults={"toy_issue": "", "toy_packages": ["cowsay"], "toy_offset": 0.05},
    options={
        "toy_issue": {"type": "str"},
        "toy_packages": {"type": "list", "elements": "str"},
        "toy_offset": {"type": "float"},
        "toy_mode": {"type": "str", "choices": ["fast", "safe"]},
        "toy_level": {"type": "int"},
    },
    constraints={"mutually_exclusive": [["toy_mode", "toy_level"]]},
    by_os={"debian-12": {"toy_service": "toyd.service"}},
    claims=CLAIMS,
)
TEMPLATE = "Welcome to {{ host.name }} of {{ fleet.name }}, {{ '{{ not for jinja }}' }}\n"
REPOSITORY = Repository({"toy/etc/motd.j2": TEMPLATE}, {"toy": SOURCE}, b"salt")
SPEC = RoleSpec(
    host="alpha",
    role="toy",
    identity={"serial": "S1"},
    about=AboutHost(name="alpha", os="debian-12", profile="virtual"),
    fleet=AboutFleet(name="lab"),
)


def file(content: str, mode: str = "0644") -> dict[str, object]:
    return {"digest": REPOSITORY.digest(content), "mode": mode, "owner": "root:root", "mtime_ns": 1}


def good() -> dict[str, object]:
    """Return raw facts of a host where all of it holds."""
    return {
        "covers": {"files": ["/etc", "/var/lib/rackwright"], "sysctls_left_out": []},
        "identity": {"serial": "S1"},
        "files": {"/etc/motd": file(MOTD, "0640"), "/etc/toy.d/a": file("")},
        "directories": {"/etc": {}, "/etc/toy.d": {"mode": "0755", "owner": "root:root", "mtime_ns": 1}},
        "packages": {"cowsay": "3.03"},
        "held": ["cowsay"],
        "units": {"toyd.service": {"load": "loaded", "active": "active", "enabled": "enabled"}},
        "unit_overrides": {},
        "loads": {"toyd.service": {"started_ns": 2, "loaded_ns": 2, "program_replaced": False}},
        "changed_files": {},
        "same_content": {},
        "sysctls": {"vm.swappiness": "10"},
        "users": {"toy": {"uid": 7, "gid": 7, "home": "/", "shell": "/bin/sh", "password": "locked", "expires": None,
                          "groups": ["games", "toy"]}},
        "sockets": [{"protocol": "tcp", "address": "::", "port": 22}],
        "measures": {"chrony.offset_seconds": 0.003},
        "owners": {"role-toy": {"id": "alpha/toy", "fleet": "lab", "phase": "ready", "wrote": ["/etc/motd"]}},
    }  # fmt: skip
