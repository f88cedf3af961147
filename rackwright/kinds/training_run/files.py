"""Every file that a run has on one of its hosts. All are root's: its account reads what it needs, and changes none."""

import json
from collections.abc import Iterator

from rackwright.core.repository import Repository
from rackwright.kinds.shared.service_account import UNITS, File
from rackwright.kinds.training_run import keys
from rackwright.kinds.training_run.spec import TrackingPart, TrainingSpec

DOOR = ("authorized_keys", "host_key", "sshd_config")
"""What the sshd reads that lets the chief in; it starts again where one of these has changed."""
SERVERS_CERTIFICATE = "/etc/rackwright/mlflow/tls.crt"
"""Where role `mlflow` has its own."""
COMMAND = "training_run/opt/rackwright/runs/bin"


def files(spec: TrainingSpec, repository: Repository) -> Iterator[File]:
    """Yield the files of *spec* on its host: of all hosts, of the chief, or of the others."""
    yield File(f"{spec.etc}/config.json", spec.config)
    yield File(f"{spec.etc}/run.json", _plan(spec))
    yield File(spec.archive, repository.workloads, 0o644)
    if spec.host == spec.chief.name:
        yield from _of_the_chief(spec, repository)
    else:
        yield from _of_another(spec, repository)
    unit = "run" if spec.host == spec.chief.name else "door"
    yield File(f"{UNITS}/{spec.unit}", repository.render(f"training_run{UNITS}/{unit}.service.j2", run=spec), 0o644)


def _of_the_chief(spec: TrainingSpec, repository: Repository) -> Iterator[File]:
    if spec.tracking is not None:
        yield from _of_tracking(spec, spec.tracking, repository)
    if not spec.others:
        return
    secret = repository.secrets.get(spec.key)
    own = None if secret is None else keys.private(secret, spec.fleet, spec.name)
    yield File(f"{spec.etc}/key", own, secret=spec.key)
    known = [f"[{seat.address}]:{spec.port} {_public(secret, spec, seat.name)}\n" for seat in spec.others]
    yield File(f"{spec.etc}/known_hosts", None if secret is None else "".join(known), secret=spec.key)
    yield File(f"{spec.etc}/ssh_config", repository.render(_template("ssh_config"), run=spec))
    yield File(f"{spec.opt}/bin/ssh", repository.render(f"{COMMAND}/ssh.j2", run=spec), 0o755)
    if spec.min_processes is not None:
        yield File(f"{spec.opt}/bin/discover", repository.render(f"{COMMAND}/discover.j2", run=spec), 0o755)


def _of_tracking(spec: TrainingSpec, tracking: TrackingPart, repository: Repository) -> Iterator[File]:
    password = repository.secrets.get(tracking.secret)
    account = f"[mlflow]\nmlflow_tracking_username = {tracking.account}\nmlflow_tracking_password = {password}\n"
    yield File(f"{spec.etc}/tracking", None if password is None else account, secret=tracking.secret)
    if tracking.certificate is not None:
        yield File(f"{spec.etc}/tracking.crt", tracking.certificate)


def _of_another(spec: TrainingSpec, repository: Repository) -> Iterator[File]:
    secret = repository.secrets.get(spec.key)
    allowed = f'from="{spec.chief.address}",restrict {_public(secret, spec)} {spec.account}\n'
    yield File(f"{spec.etc}/authorized_keys", None if secret is None else allowed, secret=spec.key)
    own = None if secret is None else keys.private(secret, spec.fleet, spec.name, spec.host)
    yield File(f"{spec.etc}/host_key", own, secret=spec.key)
    yield File(f"{spec.etc}/sshd_config", repository.render(_template("sshd_config"), run=spec))


def _template(name: str) -> str:
    return f"training_run/etc/rackwright/runs/{name}.j2"


def _public(secret: str | None, spec: TrainingSpec, *host: str) -> str:
    return "" if secret is None else keys.public(secret, spec.fleet, spec.name, *host)


def _plan(spec: TrainingSpec) -> str:
    """Return what `workloads.training.hosts` reads."""
    told = {
        "name": spec.name,
        "host": spec.host,
        "hosts": [seat.model_dump() for seat in spec.hosts],
        "processes": spec.processes,
        "launcher": spec.launcher,
        "min_processes": spec.min_processes,
        "interface": spec.interface,
        "config": f"{spec.etc}/config.json",
        "out": spec.out,
        "home": spec.home,
        "log": spec.log,
        "grace_seconds": spec.grace_seconds,
        "data": spec.data,
        "provenance": spec.provenance,
    }
    if spec.tracking is not None:
        told["tracking"] = _told(spec, spec.tracking)
    return json.dumps(told, indent=2, sort_keys=True) + "\n"


def _told(spec: TrainingSpec, tracking: TrackingPart) -> dict[str, str | None]:
    own = tracking.certificate is None
    return {
        "url": tracking.url,
        "credentials": f"{spec.etc}/tracking",
        "certificate": SERVERS_CERTIFICATE if own else f"{spec.etc}/tracking.crt",
        "register": tracking.registers,
    }
