"""The roles that follow from the `monitoring` of a fleet: exporters and a proxy for each host, and the servers."""

from collections.abc import Iterator, Mapping
from typing import Any

from rackwright.core.repository import RoleSource
from rackwright.fleet import monitoring_journal, monitoring_quarantine
from rackwright.fleet.render_alerts import RUNBOOK, alert_names, render
from rackwright.fleet.roles import SecretCheck
from rackwright.kinds.role import health
from rackwright.schema.fleet import Fleet, stations
from rackwright.schema.health import ANY
from rackwright.schema.host import Host
from rackwright.schema.metric_files import audit_file
from rackwright.schema.monitoring import Monitoring, Receiver
from rackwright.schema.problem import Keys, Problem, hint

PROXY, PROMETHEUS, ALERTMANAGER, NODE = "metrics_proxy", "prometheus", "alertmanager", "node_exporter"
DRIVES = "drive_exporter"
SERVICES, SERVICES_SOCKET = "service_exporter", "/run/rackwright-service-metrics.sock"
AUDITS, AUDITS_SOCKET = "scheduled_audit", "/run/rackwright-audit-metrics.sock"
HEALTH, HEALTH_SOCKET = "health_exporter", "/run/rackwright-health-metrics.sock"
GPUS, GPU_DRIVER = "gpu_exporter", "nvidia_driver"
CLUSTERS, CONTROL_PLANE = "cluster_exporter", "kubernetes_control_plane"
LOOPBACK = "127.0.0.1"
PROXY_JOB = "proxy"
"""The job of the proxy itself, whose answer shows that its host is reached."""
NODE_SOCKET = "/run/rackwright-node-exporter.sock"
"""Any account of a host can take a port first, and answer in the exporter's place; this name root alone."""
STORE_EXPORTERS = {"object_store_master": 9324, "object_store_filer": 9326, "object_store_s3": 9327}
"""Ports of the metrics of an object store's parts on the host that serves, by name; each other host has a volume."""
STORE_VOLUME = {"object_store_volume": 9325}
OF_ROLES: Mapping[str, Mapping[str, int | str]] = {
    "load_balancer": {"load_balancer": "/run/rackwright-load-balancer/metrics.sock"},
    CONTROL_PLANE: {"etcd": 2381},
    AUDITS: {"audits": AUDITS_SOCKET},
}
"""Ports and Unix sockets of the metrics of roles, by role and job. kubeadm has etcd's metrics on loopback."""


def problems(monitoring: Monitoring | None, hosts: Mapping[str, Host], check_secret: SecretCheck) -> Iterator[Problem]:
    """Yield the conflicts between *monitoring* and *hosts*, and missing secrets; paths are relative to the fleet."""
    if monitoring is None:
        return
    for keys, (name, shortest, form) in monitoring.secrets.items():
        if wrong := check_secret(name, shortest, form):
            yield wrong.below("monitoring", *keys)
    declared = {name: host for name, host in hosts.items() if not host.retired}
    for keys, name in ((("host",), monitoring.host), *((("addresses", each), each) for each in monitoring.addresses)):
        if name not in hosts:
            expected = f"a host of the fleet: {', '.join(declared) or 'none'}"
            help = hint(name, declared, "Name one of them, or declare the host")
            yield Problem(f"got {name!r}", expected, help, ("monitoring", *keys))
    for name in monitoring.delays:
        if name not in alert_names():
            expected = f"an alert of {RUNBOOK}"
            help = hint(name, alert_names(), "Remove it")
            yield Problem(f"got {name!r}", expected, help, ("monitoring", "delays", name))
    if monitoring.host not in declared:
        return
    tiers = declared[monitoring.host].tiers
    if monitoring.tier is not None and monitoring.tier not in tiers:
        expected = f"a tier of {monitoring.host}: {', '.join(tiers) or 'none'}"
        help = hint(monitoring.tier, tiers, "Leave it out, or name one of them")
        yield Problem(f"got {monitoring.tier!r}", expected, help, ("monitoring", "tier"))
    reached = addresses(monitoring, declared)
    for name in monitoring.addresses:
        others = [each for each, address in reached.items() if each != name and address == reached.get(name)]
        if name in declared and others:
            expected = "each host has an address of its own: metrics of one would pass for those of the other"
            problem = f"got {reached[name]}, which is the address of {others[0]}"
            help = "Write the address of this host, or remove the line"
            yield Problem(problem, expected, help, ("monitoring", "addresses", name))
    yield from monitoring_journal.problems(monitoring, declared)
    yield from monitoring_quarantine.problems(monitoring, declared)
    for name, host in declared.items():
        yield from _host_problems(monitoring, name, host)
        if name not in reached:
            expected = f"an address of {name} in a declared network of {monitoring.host}"
            help = f"Declare an address of both in one network, or name that of {name} under addresses"
            yield Problem(f"got no address of {name} for its metrics", expected, help, ("monitoring", "host"))


def _host_problems(monitoring: Monitoring, name: str, host: Host) -> Iterator[Problem]:
    place: Keys = ("hosts", name, "roles")
    for role in (PROXY, *((PROMETHEUS, ALERTMANAGER) if name == monitoring.host else ())):
        if role in host.roles:
            help = "Remove it, or remove monitoring"
            yield Problem("got the role", f"monitoring gives hosts role {role}", help, (*place, role))
    if "base" not in host.roles:
        text = f"got {name} without role base"
        yield Problem(text, "a monitored host has role base", f"Add base: {{}} to the roles of {name}", ("monitoring",))
    for key in ("address", "port"):
        if (value := host.roles.get(NODE, {}).get(key)) is not None:
            expected = "with monitoring, the exporter has a Unix socket, and the proxy of the host serves it by TLS"
            yield Problem(f"got {value!r}", expected, "Remove it", (*place, NODE, key))


def addresses(monitoring: Monitoring, hosts: Mapping[str, Host]) -> dict[str, str]:
    """Return the address of the proxy of each host that has one: a declared one, or that in a common network."""
    found = {monitoring.host: LOOPBACK}
    for several in stations(hosts).values():
        if any(station.host == monitoring.host for station in several):
            for station in several:
                found.setdefault(station.host, station.address)
    return {**found, **{name: address for name, address in monitoring.addresses.items() if name in hosts}}


def exporters(host: Host, services: list[dict[str, Any]]) -> dict[str, int | str]:
    """Return the ports on loopback and the Unix sockets of the exporters of *host*, by the names of their jobs.

    Args:
        services: The services of the host with a health URL.
    """
    found: dict[str, int | str] = {"node": NODE_SOCKET, "services": SERVICES_SOCKET}
    found |= {"health": HEALTH_SOCKET} if services else {}
    if (store := host.roles.get("object_store")) is not None:
        serves = store.get("gateway", "") in ("", store.get("address"))
        found |= {**STORE_VOLUME, **(STORE_EXPORTERS if serves else {})}
    for role, own in OF_ROLES.items():
        found |= own if role in host.roles else {}
    return found


def auditors_of(hosts: Mapping[str, Host]) -> dict[str, str]:
    """Return the host whose role audits each stack, by the stack."""
    return {stack: name for name, host in hosts.items() for stack in host.roles.get(AUDITS, {}).get("stacks", ())}


def services_of(host: Host, roles: Mapping[str, RoleSource]) -> list[dict[str, Any]]:
    """Return the services of *host* with a health URL: the declared ones, and those of its roles."""
    declared = host.roles.get(HEALTH, {}).get("services", [])
    of_roles = [each for role in host.roles for each in health.services(roles[role], host.os, host.variables(role))]
    return [*{each["service"]: each for each in (*declared, *of_roles)}.values()]


def has_gpu_metrics(host: Host) -> bool:
    """Return whether *host* has GPUs whose driver has NVML."""
    return GPU_DRIVER in host.roles and bool(host.minimum.gpus)


def with_roles(fleet: Fleet, roles: Mapping[str, RoleSource]) -> Fleet:
    """Return *fleet* with the roles of its monitoring on its hosts; *fleet* itself without monitoring."""
    monitoring = fleet.monitoring
    if monitoring is None:
        return fleet
    monitored = {name: host for name, host in fleet.hosts.items() if not host.retired}
    reached, clients = addresses(monitoring, monitored), _clients(monitoring, monitored)
    services = {name: services_of(host, roles) for name, host in monitored.items()}
    places = {name: exporters(host, services[name]) for name, host in monitored.items()}
    jobs = {name: (PROXY_JOB, *own) for name, own in places.items()}
    targets = [
        {"job": job, "instance": name, "address": _endpoint(reached[name], monitoring.port), "path": f"/{job}"}
        for name, several in jobs.items()
        for job in several
    ]
    alerts = {name: host.alerts for name, host in monitored.items()}
    auditors = auditors_of(monitored)
    audits = {stack: (hours, auditors.get(stack, monitoring.host)) for stack, hours in monitoring.audits.items()}
    figures = {name: _figures(host) for name, host in monitored.items()}
    rules = render(jobs, alerts, monitoring.delays, figures, audits)
    copied = {
        name: [stack for stack in audits if stack not in auditors] if name == monitoring.host else []
        for name in monitored
    }
    hosts = {
        name: host.model_copy(
            update={
                "roles": {
                    **host.roles,
                    **_roles_of_host(
                        monitoring, name, host, reached[name], clients, places[name], services[name], copied[name]
                    ),
                    **(_roles_of_servers(monitoring, targets, rules) if name == monitoring.host else {}),
                    **monitoring_journal.roles_of_host(monitoring, name, monitored),
                    **monitoring_quarantine.roles_of_host(monitoring, name, monitored),
                }
            }
        )
        if name in monitored
        else host
        for name, host in fleet.hosts.items()
    }
    return fleet.model_copy(update={"hosts": hosts})


def _figures(host: Host) -> dict[str, float]:
    """Return the figures of *host* beside its `alerts` that rules need: GPUs, control planes, and limits of drives."""
    limits = {f"drive_{name}": limit for name, limit in host.health.model_dump().items() if limit != ANY}
    gpus = {"gpus": sum(host.minimum.gpus.values())} if has_gpu_metrics(host) else {}
    return {**limits, **gpus, **({"control_planes": 1} if CONTROL_PLANE in host.roles else {})}


def _endpoint(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _clients(monitoring: Monitoring, hosts: Mapping[str, Host]) -> list[str]:
    """Return the addresses of the monitoring host in declared networks, from which Prometheus connects."""
    found = {each.address for several in stations(hosts).values() for each in several if each.host == monitoring.host}
    return sorted(found)


def _roles_of_host(
    monitoring: Monitoring,
    name: str,
    host: Host,
    address: str,
    clients: list[str],
    places: dict[str, int | str],
    services: list[dict[str, Any]],
    copied_audits: list[str],
) -> dict[str, dict[str, Any]]:
    node = host.roles.get(NODE, {})
    # a failed unit is an alert
    collectors = {"systemd": True, **node.get("collectors", {})}
    reached = {"address": address, "port": monitoring.port, "clients": clients}
    proxy = {**reached, "exporters": places, "key": monitoring.key}
    of_gpus, of_cluster = [GPUS] * has_gpu_metrics(host), [CLUSTERS] * (CONTROL_PLANE in host.roles)
    own = {role: host.roles.get(role, {}) for role in (SERVICES, DRIVES, *of_gpus, *of_cluster)}
    files = [*dict.fromkeys((*node.get("textfiles", ()), *map(audit_file, copied_audits)))]
    node = {**node, "collectors": collectors, "textfiles": files, "socket": NODE_SOCKET}
    return {NODE: node, PROXY: proxy, **own, **({HEALTH: {"services": services}} if services else {})}


def _roles_of_servers(
    monitoring: Monitoring, targets: list[dict[str, str]], rules: dict[str, list[dict[str, Any]]]
) -> dict[str, dict[str, Any]]:
    samples = {"data": {"tier": monitoring.tier}} if monitoring.tier else {}
    size = {"retention_size": str(int(monitoring.retention_size))} if monitoring.retention_size else {}
    heartbeat = {"heartbeat": monitoring.heartbeat} if monitoring.heartbeat else {}
    quarantine = {"quarantine_port": monitoring.quarantine.port} if monitoring.quarantine else {}
    prometheus = {
        **samples,
        **size,
        "key": monitoring.key,
        "retention_days": monitoring.retention_days,
        "scrape_seconds": monitoring.scrape_seconds,
        "targets": targets,
        "rules": rules,
    }
    alertmanager = {
        **heartbeat,
        **quarantine,
        "key": monitoring.key,
        "receivers": [_receiver(name, receiver) for name, receiver in monitoring.receivers.items()],
        "routes": [route.model_dump() for route in monitoring.routes],
        "repeat_minutes": monitoring.repeat_minutes,
    }
    return {PROMETHEUS: prometheus, ALERTMANAGER: alertmanager}


def _receiver(name: str, receiver: Receiver) -> dict[str, Any]:
    email = receiver.email and receiver.email.model_dump(exclude_none=True)
    if email:
        email["from"] = email.pop("sender")
    parts = {"name": name, "url": receiver.url, "email": email}
    return {key: value for key, value in parts.items() if value is not None}
