"""The kinds of a training run: the launcher host starts and leads it, and each worker host runs an sshd for it."""

from collections.abc import Sequence
from typing import Any, ClassVar

from rackwright.core.contract import Claim, Difference, Observation, OneOf, Plan, Want
from rackwright.core.repository import Repository
from rackwright.facts.facts import Facts
from rackwright.kinds.shared import firewall, gpu_assignment, loaded, observation, service_directories
from rackwright.kinds.shared.identity import identity_claim
from rackwright.kinds.shared.service_account import claim
from rackwright.kinds.shared.unit_overrides import add_manual_work
from rackwright.kinds.training_run.files import files, files_at_start
from rackwright.kinds.training_run.observe import CHECKPOINTS, observe_property, report
from rackwright.kinds.training_run.spec import TrainingSpec

CHECKPOINTS_REMEDY = (
    "find out who took them away, and copy them back from where they are; the run goes on without them, and a run that"
    " stops now begins again at the newest one that is left"
)


class _OnHost:
    """The common part of both kinds."""

    spec = TrainingSpec

    def id(self, spec: TrainingSpec) -> str:
        return spec.id

    def claims(self, spec: TrainingSpec, repository: Repository) -> tuple[Claim, ...]:
        account = spec.account
        user: dict[str, Want] = {"groups": (account,), "home": spec.home, "shell": "/bin/sh", "password": "locked"}
        requirements = [Claim(f"mount:{spec.mount}", {"present": True}, owned=False)]
        if spec.interface is not None:
            requirements.append(Claim(f"link:{spec.interface}", {"up": True}, owned=False))
        declared = [*files(spec, repository)]
        own = service_directories.names(declared, spec.etc, spec.opt)
        return (
            identity_claim(spec.host, spec.identity),
            *requirements,
            Claim(f"user:{account}", user),
            Claim(f"directory:{spec.etc}", {"mode": "0750", "owner": f"root:{account}", **own.pop(spec.etc)}),
            *(Claim(f"directory:{folder}", names) for folder, names in own.items()),
            Claim(f"directory:{spec.home}", {"mode": "0700", "owner": f"{account}:{account}"}),
            Claim(f"directory:{spec.logs}", {"mode": "0750", "owner": f"root:{account}"}),
            *(claim(file, spec, repository) for file in declared),
            Claim(f"unit:{spec.unit}", {"state": "enabled"}),
            *loaded.claims(spec.unit, files_at_start(spec), reloads=False),
            *firewall.claims(spec.firewall),
            *gpu_assignment.claims(spec.owner, spec.gpus),
            self._outcome(spec),
            Claim(f"owner:{spec.owner}", {"id": spec.id, "fleet": spec.fleet, "phase": "ready"}),
        )

    def _outcome(self, spec: TrainingSpec) -> Claim:
        raise NotImplementedError

    def observe(self, claims: Sequence[Claim], facts: Facts) -> Observation:
        return observation.observe(observe_property, claims, facts)

    def report(self, spec: TrainingSpec, facts: Facts) -> dict[str, Any]:
        return report(spec, facts)

    def plan(self, spec: TrainingSpec, differences: Sequence[Difference], facts: Facts, repository: Repository) -> Plan:
        from rackwright.kinds.training_run import plan as planning

        lost = tuple(item for item in differences if item.name == CHECKPOINTS)
        plannable = [item for item in differences if item.name != CHECKPOINTS]
        return add_manual_work(planning.plan(spec, plannable, facts, repository), lost)

    def removal(self, spec: TrainingSpec, facts: Facts, repository: Repository, consent: bool) -> Plan:
        from rackwright.kinds.training_run import plan as planning

        return planning.removal(spec, facts, repository)

    def consents(self, spec: TrainingSpec) -> bool:
        """Return True: the checkpoints stay on the tier."""
        return True

    def rollout_group(self, spec: TrainingSpec) -> None:
        return None


class TrainingRunKind(_OnHost):
    """The kind of the run on its launcher host. Its outcome holds while the run is running or finished."""

    token: ClassVar[str] = "rackwright:workload:TrainingRun"

    def _outcome(self, spec: TrainingSpec) -> Claim:
        want: dict[str, Want] = {"outcome": OneOf(("running", "finished")), CHECKPOINTS: "kept"}
        return Claim(f"run:{spec.name}", want, remedies={CHECKPOINTS: CHECKPOINTS_REMEDY})


class TrainingWorkerKind(_OnHost):
    """The kind of the run on a worker host: an sshd through which the launcher starts processes."""

    token: ClassVar[str] = "rackwright:workload:TrainingSeat"

    def _outcome(self, spec: TrainingSpec) -> Claim:
        return Claim(f"door:{spec.name}", {"outcome": OneOf(("open", "finished"))})
