"""The kind of a model server on one host: a model, its service, and the keys of clients."""

import posixpath
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from rackwright.core.contract import Claim, Difference, Observation, Plan, Want
from rackwright.core.repository import Repository
from rackwright.facts.facts import Facts
from rackwright.kinds.model_server import adapters
from rackwright.kinds.model_server.files import files, files_at_start, release_of, watch_files
from rackwright.kinds.model_server.observe import WHOLE, model_claim, observe_property, report
from rackwright.kinds.model_server.spec import ServerSpec
from rackwright.kinds.shared import firewall, gpu_assignment, loaded, observation, service_directories
from rackwright.kinds.shared.identity import identity_claim
from rackwright.kinds.shared.service_account import claim


class ModelServerKind:
    """The kind of a server on one host. Its claim holds if the server reports ready with the declared version."""

    token: ClassVar[str] = "rackwright:workload:ModelServer"
    spec = ServerSpec

    def id(self, spec: ServerSpec) -> str:
        return spec.id

    def claims(self, spec: ServerSpec, repository: Repository) -> tuple[Claim, ...]:
        account = spec.account
        user: dict[str, Want] = {
            "groups": (account,), "home": "/nonexistent", "shell": "/usr/sbin/nologin", "password": "locked",
        }  # fmt: skip
        requirements = [Claim(f"mount:{spec.mount}", {"present": True}, owned=False)] if spec.mount else []
        if spec.interface is not None:
            requirements.append(Claim(f"link:{spec.interface}", {"up": True}, owned=False))
        release = release_of(spec, repository)
        declared = [*files(spec, repository)]
        own = service_directories.names(declared, spec.etc)
        server: dict[str, Want] = {"outcome": "ready", "version": spec.version, "release": release, "refused": "no"}
        return (
            identity_claim(spec.host, spec.identity),
            *requirements,
            Claim(f"user:{account}", user),
            Claim(f"directory:{spec.etc}", {"mode": "0750", "owner": f"root:{account}", **own[spec.etc]}),
            Claim(f"directory:{spec.lib}", {"mode": "0750", "owner": f"root:{account}"}),
            *(claim(file, spec, repository) for file in declared),
            model_claim(spec.name, spec.version, spec.files),
            _files_claim(spec),
            Claim(f"unit:{spec.unit}", {"state": "enabled"}),
            *loaded.claims(spec.unit, files_at_start(spec, repository), reloads=False),
            *_watch(spec),
            *adapters.claims(spec),
            *(firewall.claims(spec.firewall) if spec.firewall else ()),
            *gpu_assignment.claims(spec.owner, spec.gpus),
            Claim(f"server:{spec.name}", server),
            Claim(f"owner:{spec.owner}", {"id": spec.id, "fleet": spec.fleet, "phase": "ready"}),
        )

    def observe(self, claims: Sequence[Claim], facts: Facts) -> Observation:
        return observation.observe(observe_property, claims, facts)

    def report(self, spec: ServerSpec, facts: Facts) -> dict[str, Any]:
        return report(spec, facts)

    def plan(self, spec: ServerSpec, differences: Sequence[Difference], facts: Facts, repository: Repository) -> Plan:
        from rackwright.kinds.model_server import plan as planning

        return planning.plan(spec, differences, facts, repository)

    def removal(self, spec: ServerSpec, facts: Facts, repository: Repository, consent: bool) -> Plan:
        from rackwright.kinds.model_server import plan as planning

        return planning.removal(spec, facts)

    def consents(self, spec: ServerSpec) -> bool:
        """Return True: the host has only a copy of the model."""
        return True

    def rollout_group(self, spec: ServerSpec) -> None:
        """Return None: the dependencies between the resources give the order of the hosts."""
        return


def _files_claim(spec: ServerSpec) -> Claim:
    """Return the claim that the directory of models and releases has what they use, and nothing else."""
    rows: dict[str, Want] = {"rows": f"{posixpath.basename(spec.data)}: {WHOLE}"} if spec.data else {}
    return Claim(f"server_files:{spec.name}", {"others": (), "state": WHOLE, **rows})


def _watch(spec: ServerSpec) -> Iterator[Claim]:
    """Yield the claim that the watch's timer runs; without a watch, the claims that its files are absent."""
    if spec.watch:
        yield Claim(f"unit:{spec.watch_units[1]}", {"state": "enabled", "active": "active"})
    else:
        yield from (Claim(f"file:{path}", {"present": False}) for path in watch_files(spec))
