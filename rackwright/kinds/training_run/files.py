"""The files of a run on one of its hosts. Root owns all; the account of the run can read some, and change none."""

import json
from collections.abc import Iterator

from rackwright.core.repository import Repository
from rackwright.kinds.shared import firewall
from rackwright.kinds.shared.service_account import UNITS, ServiceFile
from rackwright.kinds.training_run import keys
from rackwright.kinds.training_run.spec import TrackingServer, TrainingSpec
from rackwright.schema.run import Tracking

SSHD_FILES = ("authorized_keys", "host_key", "sshd_config")
"""The files of the sshd on a worker host; the sshd restarts if one of them changes."""
SERVERS_CERTIFICATE = "/etc/rackwright/mlflow/tls.crt"
"""The path of the certificate that role `mlflow` creates."""
COMMAND = "training_run/opt/rackwright/runs/bin"


def files(spec: TrainingSpec, repository: Repository) -> Iterator[ServiceFile]:
    """Yield the files of *spec* on its host: those of all hosts, then those of the launcher host or of a worker."""
    yield ServiceFile(f"{spec.etc}/config.json", spec.config)
    yield ServiceFile(f"{spec.etc}/run.json", _plan(spec))
    yield ServiceFile(spec.firewall.path, firewall.text(spec.firewall, repository))
    yield ServiceFile(spec.archive, repository.workloads, 0o644)
    if spec.host == spec.launcher_host.name:
        yield from _launcher_files(spec, repository)
    else:
        yield from _worker_files(spec, repository)
    unit = "run" if spec.host == spec.launcher_host.name else "door"
    yield ServiceFile(
        f"{UNITS}/{spec.unit}", repository.render(f"training_run{UNITS}/{unit}.service.j2", run=spec), 0o644
    )


def files_at_start(spec: TrainingSpec) -> list[str]:
    """Return the paths of the files that the unit of *spec* reads once, when it starts; sshd reads its settings so."""
    names = ("config.json", "run.json") if spec.host == spec.launcher_host.name else ("host_key", "sshd_config")
    return [f"{UNITS}/{spec.unit}", *(f"{spec.etc}/{name}" for name in names)]


def _launcher_files(spec: TrainingSpec, repository: Repository) -> Iterator[ServiceFile]:
    if (tracking := spec.declared.tracking) and (server := spec.tracking_server):
        yield from _tracking_files(spec, tracking, server, repository)
    if not spec.workers:
        return
    secret = repository.secrets.get(spec.key)
    key = None if secret is None else keys.private(secret, spec.fleet, spec.name)
    yield ServiceFile(f"{spec.etc}/key", key, secret=spec.key)
    lines = [
        f"[{worker.address}]:{spec.declared.port} {_public(secret, spec, worker.name)}\n" for worker in spec.workers
    ]
    yield ServiceFile(f"{spec.etc}/known_hosts", None if secret is None else "".join(lines), secret=spec.key)
    yield ServiceFile(f"{spec.etc}/ssh_config", repository.render(_template("ssh_config"), run=spec))
    yield ServiceFile(f"{spec.opt}/bin/ssh", repository.render(f"{COMMAND}/ssh.j2", run=spec), 0o755)
    if spec.declared.elastic is not None:
        yield ServiceFile(f"{spec.opt}/bin/discover", repository.render(f"{COMMAND}/discover.j2", run=spec), 0o755)


def _tracking_files(
    spec: TrainingSpec, tracking: Tracking, server: TrackingServer, repository: Repository
) -> Iterator[ServiceFile]:
    password = repository.secrets.get(server.secret)
    account = f"[mlflow]\nmlflow_tracking_username = {tracking.account}\nmlflow_tracking_password = {password}\n"
    yield ServiceFile(f"{spec.etc}/tracking", None if password is None else account, secret=server.secret)
    if server.certificate is not None:
        yield ServiceFile(f"{spec.etc}/tracking.crt", server.certificate)


def _worker_files(spec: TrainingSpec, repository: Repository) -> Iterator[ServiceFile]:
    secret = repository.secrets.get(spec.key)
    line = f'from="{spec.launcher_host.address}",restrict {_public(secret, spec)} {spec.account}\n'
    yield ServiceFile(f"{spec.etc}/authorized_keys", None if secret is None else line, secret=spec.key)
    key = None if secret is None else keys.private(secret, spec.fleet, spec.name, spec.host)
    yield ServiceFile(f"{spec.etc}/host_key", key, secret=spec.key)
    yield ServiceFile(f"{spec.etc}/sshd_config", repository.render(_template("sshd_config"), run=spec))


def _template(name: str) -> str:
    return f"training_run/etc/rackwright/runs/{name}.j2"


def _public(secret: str | None, spec: TrainingSpec, *host: str) -> str:
    return "" if secret is None else keys.public(secret, spec.fleet, spec.name, *host)


def _plan(spec: TrainingSpec) -> str:
    """Return the plan of the run for `workloads.training.hosts`, as JSON."""
    run = spec.declared
    plan = {
        "name": spec.name,
        "host": spec.host,
        "hosts": [member.model_dump() for member in spec.hosts],
        "processes": run.processes,
        "launcher": run.launcher,
        "min_processes": run.elastic.min_processes if run.elastic else None,
        "interface": spec.interface,
        "config": f"{spec.etc}/config.json",
        "out": spec.out,
        "home": spec.home,
        "log": spec.log,
        "grace_seconds": run.grace_seconds,
        "data": run.data,
        "provenance": spec.provenance,
    }
    if spec.workers and run.launcher == "torchrun":
        plan["rendezvous_port"] = run.rendezvous_port
    if run.variables:
        plan["variables"] = run.variables
    if run.tracking and (server := spec.tracking_server):
        plan["tracking"] = _tracking_plan(spec, run.tracking, server)
    return json.dumps(plan, indent=2, sort_keys=True) + "\n"


def _tracking_plan(spec: TrainingSpec, tracking: Tracking, server: TrackingServer) -> dict[str, str | None]:
    own = server.certificate is None
    return {
        "url": server.url,
        "credentials": f"{spec.etc}/tracking",
        "certificate": SERVERS_CERTIFICATE if own else f"{spec.etc}/tracking.crt",
        "register": tracking.registers,
    }
