"""Every rule: a change of a converged host that it finds, and the same host without the change."""

import json
from dataclasses import replace
from typing import Any

import pytest

from rackwright.audit.undeclared.declaration import host_declaration
from rackwright.audit.undeclared.search import search
from rackwright.audit.undeclared.table import MODULES, RULES
from rackwright.core import contract
from rackwright.facts.facts import Facts
from rackwright.stack import declare, load_stack
from tests.support.converged_host import SEEDED, converged, declared, found, with_more, with_unrecorded
from tests.support.rule_cases import (
    ARCHIVE,
    FILE,
    FOUND,
    GPU,
    LINK,
    LOGIN,
    ROUTE,
    SOCKET,
    entry,
    unpackaged,
)
from tests.support.sources import ROOT


def found_by_all(raw: dict[str, Any]) -> list[str]:
    return [f"{rule.id} {finding.thing}" for rule, finding, _ in search(Facts(raw), declared())]


def test_every_rule_has_an_id_of_its_own_and_a_case():
    assert len(RULES) == sum(len(module.RULES) for module in MODULES)
    assert {*FOUND} == {*RULES}


@pytest.mark.parametrize("id", RULES)
def test_a_rule_finds_its_case_and_nothing_on_a_converged_host(id):
    change, thing = FOUND[id]
    raw = converged()
    assert found(RULES[id], raw) == []

    change(raw)

    assert found(RULES[id], raw) == [(thing, False)]


@pytest.mark.parametrize(
    ("want", "starter", "is_found"),
    [
        ({"state": "enabled"}, {}, True),
        ({"state": "disabled"}, {}, False),
        ({"state": "masked"}, {}, False),
        ({"state": "disabled"}, {"unit:pull.timer": {"state": "enabled", "active": "active"}}, True),
        ({"state": "disabled"}, {"unit:pull.timer": {"state": "disabled"}}, False),
    ],
)
def test_a_failed_run_counts_where_the_declaration_runs_the_unit(want, starter, is_found):
    """
    The installation of a package runs its unit once, before a role switches it off.
    """
    raw = converged()
    failed = {"load": "loaded", "active": "failed", "enabled": want["state"]}
    raw["units"]["pull.service"] = failed
    raw["units"]["pull.timer"] = {**failed, "active": "active"}
    own = replace(declared(), wants={**declared().wants, "unit:pull.service": want, **starter})

    assert found(RULES["RW-170"], raw, own) == ([("unit:pull.service", False)] if is_found else [])


def test_a_unit_that_the_target_cannot_show_may_fail_there():
    change, thing = FOUND["RW-170"]
    raw = converged()
    change(raw)

    assert found(RULES["RW-170"], raw, replace(declared(), not_shown=frozenset((thing,)))) == []


def test_things_of_a_scope_that_a_container_lacks_are_not_shown():
    """
    A thing with one claim that the target can show is shown.
    """
    stack = load_stack("lab-full", ROOT)
    name = min(stack.containers)
    resources = [each for each in declare(stack) if each.source == name]

    hidden = host_declaration(stack, name, resources).not_shown

    claims = [
        (claim.thing, claim.scope in each.spec.not_rehearsable)
        for each in resources
        for claim in contract.claims(each.kind, each.spec, stack.repository)
    ]
    assert hidden == {thing for thing, _ in claims} - {thing for thing, is_hidden in claims if not is_hidden}
    assert hidden


def test_a_declared_account_is_root_by_its_id_as_well():
    """
    A declaration names an account, and none gives it the id of root.
    """
    raw = converged()
    raw["users"]["axel"] = {**raw["users"]["root"], "shell": "/bin/bash"}
    declaration = replace(declared(), wants={**declared().wants, "user:axel": {"shell": "/bin/bash"}})

    assert declaration.declares("user:axel")
    assert found(RULES["RW-021"], raw, declaration) == [("user:axel", False)]


@pytest.mark.parametrize("id", RULES)
def test_a_host_whose_facts_are_missing_is_unknown_and_never_fine(id):
    raw = {"hardware": GPU, "module_versions": {"nvidia": "1"}, "modules": ["nvidia"]} if id > "RW-100" else {}

    assert found(RULES[id], raw) == [(RULES[id].subject, True)]


def test_a_thing_that_was_found_before_the_unknown_one_is_kept():
    raw = converged()
    raw["containers"]["podman"].append({"name": "web", "image": "nginx:1"})
    raw["containers"]["docker"] = {"unknown": "permission denied"}

    assert found(RULES["RW-070"], raw) == [("container:podman/web", False), ("containers", True)]


STRANGE = (None, 1, "x", [[]], [None], True, {"x": 1}, {"x": [None]}, {"x": {"x": None}}, [{"x": 1}])


@pytest.mark.parametrize("id", RULES)
def test_facts_of_another_form_are_unknown_and_no_traceback(id):
    raw = converged()
    FOUND[id][0](raw)
    for key in raw:
        for value in STRANGE:
            found(RULES[id], {**raw, key: value})


DECLARED = {
    "RW-001": ("package:localthing",),
    "RW-002": (f"file:{ARCHIVE['path']}",),
    "RW-005": ("package:tar", "held"),
    "RW-010": ("md:other:data",),
    "RW-014": ("mount:/mnt",),
    "RW-020": ("user:eve",),
    "RW-022": ("user:eve", "groups"),
    "RW-024": ("authorized_keys:root",),
    "RW-030": ("socket:tcp:4444",),
    "RW-031": ("unit:x.service",),
    "RW-040": ("module:rootkit",),
    "RW-041": ("kernel_parameter:mitigations=off",),
    "RW-042": ("directory:/etc/sysctl.d", "names"),
    "RW-051": ("link:eth7",),
    "RW-060": ("file:/usr/local/bin/x", "mode"),
    "RW-070": ("image:nginx:1",),
    "RW-071": ("image:nginx:1",),
}
"""By rule the claim with which its case is declared."""


@pytest.mark.parametrize("id", DECLARED)
def test_a_declared_thing_is_not_found(id):
    thing, *names = DECLARED[id]
    raw = converged()
    FOUND[id][0](raw)

    assert found(RULES[id], raw, with_more(declared(), thing, *names)) == []


LOCAL = {
    "RW-004": "/etc/dpkg/dpkg.cfg.d/x",
    "RW-027": "/etc/ssh/shosts.equiv",
    "RW-031": "/usr/local/lib/systemd/system/x.service",
    "RW-032": "/usr/lib/systemd/system/cron.service.d/x.conf",
    "RW-036": "/usr/local/lib/systemd/system-generators/x",
    "RW-042": "/usr/lib/sysctl.d/99-x.conf",
    "RW-043": "/usr/local/lib/udev/rules.d/99-x.rules",
    "RW-063": "/usr/share/polkit-1/rules.d/x.rules",
}
"""By rule a file beside the usual directory, with the same effect."""


@pytest.mark.parametrize("id", LOCAL)
def test_a_file_in_another_directory_of_the_same_effect_is_found(id):
    raw = converged()
    unpackaged(LOCAL[id])(raw)
    name = "unit:x.service" if id == "RW-031" else f"file:{LOCAL[id]}"

    assert found(RULES[id], raw) == [(name, False)]


def test_units_of_steps_and_stopped_ones_are_no_running_services():
    raw = converged()
    state = {"load": "loaded", "active": "active", "enabled": "transient"}
    raw["units"] |= {
        "rackwright-replace-alpha-hot.service": state,
        "session-4.scope": state,
        "ended.service": {**state, "active": "failed"},
    }
    raw["step_units"] = {"rackwright-replace-alpha-hot.service": True}

    assert found(RULES["RW-037"], raw) == []
    raw["units"]["odd.service"] = {"unknown": "no answer"}
    assert found(RULES["RW-037"], raw) == [("running services", True)]


def test_links_that_enable_or_mask_a_unit_are_no_units():
    raw = converged()
    for name, target in (
        ("a.service", "/dev/null"),
        ("b.service", "/lib/systemd/system/c.service"),
        ("multi-user.target.wants/d.service", "/opt/d.service"),
    ):
        unpackaged(f"/etc/systemd/system/{name}", f"-> {target}")(raw)
    assert found(RULES["RW-031"], raw) == []

    unpackaged("/etc/systemd/system/e.service", "-> /opt/e.service")(raw)
    assert found(RULES["RW-031"], raw) == [("unit:e.service", False)]


def test_a_socket_that_no_other_machine_reaches_is_not_found():
    raw = converged()
    raw["listeners"] += [{**SOCKET, "address": address} for address in ("127.0.0.1", "::1", "127.0.0.53")]

    assert found(RULES["RW-030"], raw) == []


def test_a_socket_of_the_distribution_or_of_a_cluster_is_not_found():
    raw = converged()
    dhclient = {
        **SOCKET,
        "protocol": "udp",
        "port": 68,
        "programs": ["/usr/sbin/dhclient"],
        "units": ["networking.service"],
    }
    raw["listeners"] = [dhclient]
    assert found(RULES["RW-030"], raw) == [("socket:udp:[::]:68", False)]
    raw["base_programs"] = ["/usr/sbin/dhclient"]
    assert found(RULES["RW-030"], raw) == [("socket:udp:[::]:68", False)]
    state = {"load": "loaded", "active": "active", "enabled": "transient"}
    raw["units"]["networking.service"] = state
    assert found(RULES["RW-030"], raw) == [("socket:udp:[::]:68", False)]
    raw["units"]["networking.service"] = {**state, "enabled": "enabled"}
    assert found(RULES["RW-030"], raw) == []
    raw["unpackaged"].append("/etc/systemd/system/networking.service")
    assert found(RULES["RW-030"], raw) == [("socket:udp:[::]:68", False)]

    raw["listeners"] = [{**SOCKET, "units": ["cri-containerd-0a1b.scope"]}]
    assert found(RULES["RW-030"], raw) == [("socket:tcp:[::]:4444", False)]
    cluster = replace(declared(), host=declared().host.model_copy(update={"roles": {"kubernetes_node": {}}}))
    assert found(RULES["RW-030"], raw, cluster) == []
    raw["listeners"] = [{**SOCKET, "units": [f"k8s.io/{'0a' * 32}"]}]
    assert found(RULES["RW-030"], raw, cluster) == []
    raw["listeners"] = [{**SOCKET, "units": []}]
    assert found(RULES["RW-030"], raw, cluster) == [("socket:tcp:[::]:4444", False)]


def test_bridges_of_engines_and_routes_of_a_cluster_are_not_found():
    raw = converged()
    raw["links"].append({**LINK, "kind": "bridge"})
    raw["routes"].append(ROUTE)
    claimed = {f"route:{ROUTE['destination']}": {"via": ROUTE["gateway"]}}

    assert found(RULES["RW-051"], raw) == []
    assert found(RULES["RW-052"], raw, replace(declared(), wants={**declared().wants, **claimed})) == []


def test_a_second_route_of_a_node_of_a_cluster_is_found():
    raw = converged()
    raw["routes"].append(ROUTE)
    cluster = replace(declared(), host=declared().host.model_copy(update={"roles": {"kubernetes_node": {}}}))

    assert found(RULES["RW-052"], raw, cluster) == [(f"route:{ROUTE['destination']}", False)]


def test_a_declared_route_that_leads_elsewhere_is_left_to_its_claim():
    """
    A second route to the same network is undeclared, since the claim on the first one holds.
    """
    raw = converged()
    other = {**ROUTE, "destination": "198.51.100.0/24"}
    raw["routes"] = [other]
    assert found(RULES["RW-052"], raw) == []

    raw["routes"].append({**other, "gateway": "10.32.0.254"})
    assert found(RULES["RW-052"], raw) == [("route:198.51.100.0/24", False)]


def test_packages_are_unknown_without_lists_unless_apt_has_no_archive_of_its_own():
    raw = converged()
    raw["foreign_packages"] = {"unknown": "no list of debian's packages"}
    assert found(RULES["RW-001"], raw) == []  # the twin's own list alone
    raw["archives"] = []
    assert found(RULES["RW-001"], raw) == []

    raw["archives"] = [{**ARCHIVE, "key": None}]
    assert found(RULES["RW-001"], raw) == [("packages", True)]


def test_runs_and_servers_of_a_fleet_that_uses_the_host_are_declared_there():
    raw = converged()
    raw["owners"]["server-digits"] = {"id": "alpha/digits", "fleet": "serving", "phase": "ready"}
    entry("users", "server-digits", {**LOGIN, "uid": 1009})(raw)
    unpackaged("/etc/systemd/system/server-digits.service")(raw)
    unpackaged("/etc/systemd/system/watch-digits.timer")(raw)
    raw["listeners"].append({**SOCKET, "units": ["server-digits.service"]})

    assert found_by_all(raw) == []

    raw["owners"]["server-digits"]["fleet"] = "software"
    assert found_by_all(raw) == [
        "RW-020 user:server-digits",
        "RW-030 socket:tcp:[::]:4444",
        "RW-031 unit:server-digits.service",
        "RW-031 unit:watch-digits.timer",
        "RW-062 owner:server-digits",
    ]


def test_mounts_of_pods_of_another_fleet_are_declared_there():
    raw = converged()
    raw["owners"]["run-credit"] = {"id": "cp-01/credit", "fleet": "models", "phase": "ready"}
    mount = r"run-rackwright-pods-run\x2dcredit-files.service"
    unpackaged(f"/etc/systemd/system/{mount}")(raw)
    assert found_by_all(raw) == []

    other = mount.replace("credit", "letters")
    unpackaged(f"/etc/systemd/system/{other}")(raw)
    assert found_by_all(raw) == [f"RW-031 unit:{other}"]


def test_a_drop_in_of_a_declared_unit_has_one_row_and_no_advice_puts_it_into_effect():
    """
    The claim on the unit reports the file. A restart would give the service what the file says.
    """
    raw, path = converged(), "/run/systemd/system/registry.service.d/x.conf"
    raw["unit_overrides"] = {"registry.service": [path], "x.service": [path]}
    raw["integrity"]["files"][path] = {**FILE, "state": "unpackaged"}
    raw["service_processes"]["registry.service"] = ["environment lacks REGISTRY_AUTH"]
    declaration = with_more(declared(), "unit:registry.service", "overrides")
    assert [*search(Facts(raw), declaration)] == []

    raw["service_processes"]["registry.service"].append("stopped: registry")
    raw["service_processes"]["x.service"] = ["environment lacks X"]
    registry, x = [finding for _, finding, _ in search(Facts(raw), declaration)]
    assert registry.found == "stopped: registry"
    assert x.remedy.index("`systemctl cat x.service`") < x.remedy.index("`systemctl restart x.service`")


def test_a_unit_of_a_role_has_its_declared_ports_alone():
    raw = converged()
    path = "/etc/systemd/system/registry.service"
    declaration = with_more(with_more(declared(), "unit:registry.service"), f"file:{path}")
    units = {"programs": ["/usr/bin/registry"], "units": ["registry.service"]}
    raw["listeners"].append({**SOCKET, **units, "port": 5000})
    assert found(RULES["RW-030"], raw, with_more(declaration, "socket:tcp:5000")) == []
    assert found(RULES["RW-030"], raw, replace(declaration, ports=frozenset(("socket:tcp:5000",)))) == []

    assert found(RULES["RW-030"], raw, declaration) == [("socket:tcp:[::]:5000", False)]


SERVER_FILES = "/etc/rackwright/servers"


def with_server(raw: dict[str, Any]) -> dict[str, Any]:
    """Add a server of another fleet with its directory and two of its files, as `up` installs them."""
    raw["owners"]["server-digits"] = {"id": "alpha/digits", "fleet": "serving", "phase": "ready"}
    entry("users", "server-digits", {**LOGIN, "uid": 1009})(raw)
    account = {"owner": "root:server-digits", "rights": True}
    table = raw["integrity"]["files"]
    table[f"{SERVER_FILES}/digits"] = {"state": "unpackaged", "mode": "0750", **account}
    for name in ("keys.json", "server.json"):
        raw["files"][f"{SERVER_FILES}/digits/{name}"] = {**FILE, "mode": "0640", "owner": "root:server-digits"}
        table[f"{SERVER_FILES}/digits/{name}"] = {"state": "unpackaged", "mode": "0640", "digest": "0f", **account}
    return raw


def test_the_files_of_a_server_of_another_fleet_have_its_account_and_no_advice_takes_them_away():
    raw = with_server(converged())
    assert found_by_all(raw) == []

    raw["integrity"]["files"][f"{SERVER_FILES}/digits/keys.json"]["mode"] = "0666"
    raw["integrity"]["files"][f"{SERVER_FILES}/digits/server.json"]["acl"] = "0200000002000600e8030000"
    [keys, plan] = [finding for _, finding, _ in search(Facts(raw), declared())]
    assert keys.remedy == "Run `rackwright up` for the fleet of server-digits, or admit it under `allow`"
    command = f"`setfacl --remove-all {SERVER_FILES}/digits/server.json`"
    assert plan.remedy == f"Run {command}, or admit it under `allow`"


def test_a_directory_of_a_server_that_the_host_does_not_have_is_found():
    raw = with_server(converged())
    for path in (f"{SERVER_FILES}/evil/x.json", "/opt/rackwright/runs/evil/x.py", "/etc/rackwright/gpus/x.json"):
        unpackaged(path)(raw)
        assert found_by_all(raw) == [f"RW-061 file:{path}"]
        del raw["files"][path]

    raw["owners"]["server-digits"]["phase"] = "removed"
    assert {*found_by_all(raw)} >= {
        f"RW-061 file:{SERVER_FILES}/digits/{name}" for name in ("keys.json", "server.json")
    }


def test_what_people_put_on_a_host_of_the_twin_is_found():
    """
    Recorded: twenty-one things were put there by commands, beside a drop-in that a claim on its unit finds too. The
    service behind the open port is found twice: by its port, and as one without a file.
    """
    raw = with_unrecorded({**converged(), **json.loads(SEEDED.read_text()), "drives": converged()["drives"]})
    raw["sysctls"]["kernel.numa_balancing"] = "0"

    assert found_by_all(raw) == [
        "RW-001 package:localthing",
        "RW-002 archive:http://mirror.example/debian bookworm",
        "RW-003 file:/etc/apt/trusted.gpg.d/x.asc",
        "RW-005 hold:tar",
        "RW-020 user:mallory",
        "RW-021 user:toor",
        "RW-022 group:docker/mallory",
        "RW-026 file:/etc/pam.d/su",
        "RW-030 socket:tcp:0.0.0.0:4444",
        "RW-031 unit:evil.service",
        "RW-032 file:/etc/systemd/system/ssh.service.d/x.conf",
        "RW-033 user_unit:mallory/miner.service",
        "RW-033 linger:mallory",
        "RW-034 file:/etc/cron.d/x",
        "RW-034 crontab:root",
        "RW-035 at:a0001",
        "RW-036 file:/etc/rc.local",
        "RW-037 unit:backdoor.service",
        "RW-042 file:/etc/sysctl.d/99-x.conf",
        "RW-043 file:/etc/udev/rules.d/99-x.rules",
        "RW-060 file:/usr/local/bin/x",
        "RW-061 file:/var/lib/rackwright/owners/x.txt",
        "RW-080 file:/etc/systemd/resolved.conf.x",
    ]


@pytest.mark.parametrize(
    ("id", "path", "entry_of"),
    [
        ("RW-034", "/etc/cron.d", {"unknown": "it belongs to games:root, and is not entered"}),
        ("RW-034", "/etc/cron.d", {"unknown": "another filesystem is mounted here"}),
        ("RW-034", "/etc/cron.d", {**FILE, "digest": "-> /opt/x"}),
        ("RW-004", "/etc/apt", {"unknown": "a Python environment, of which only the packages are read"}),
        ("RW-031", "/etc/systemd/system/multi-user.target.wants", {"unknown": "it belongs to games:root"}),
    ],
)
def test_a_directory_of_which_the_probe_lists_no_files_is_unknown(id, path, entry_of):
    raw = converged()
    raw["files"][path] = entry_of

    assert found(RULES[id], raw) == [(RULES[id].subject, True)]


def test_a_mount_elsewhere_changes_no_rule():
    raw = converged()
    raw["files"]["/etc/resolvconf"] = {"unknown": "another filesystem is mounted here"}

    assert found_by_all(raw) == []


def test_container_engines_make_packet_filters_and_lock_files():
    raw = converged()
    unpackaged("/etc/containers/networks/netavark.lock")(raw)
    raw["packet_filters"] = ["ip nat"]
    raw["packages"]["podman"] = "4.3.1"

    assert found(RULES["RW-054"], raw) == [] and found(RULES["RW-072"], raw) == []


def test_a_registry_is_no_container_engine():
    raw = converged()
    unpackaged("/etc/docker/registry/config.yml")(raw)

    assert found(RULES["RW-072"], raw) == []
