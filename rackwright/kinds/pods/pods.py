"""The kind of the pods of a run or server: the objects of its cluster, as the API describes them."""

import json
from collections.abc import Container, Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, ClassVar

from rackwright.core.contract import (
    Absent,
    Claim,
    Command,
    Difference,
    Observation,
    OneOf,
    Plan,
    Put,
    Scalar,
    Value,
    Want,
)
from rackwright.core.repository import Repository
from rackwright.errors import Diagnostic
from rackwright.facts.facts import Facts
from rackwright.facts.kubernetes import ClusterFacts, WorkloadObject
from rackwright.facts.view import UnknownFact
from rackwright.kinds.cluster.quantity import Object
from rackwright.kinds.pods import api_defaults
from rackwright.kinds.pods.objects import CONFIG, FLEET, config_label, objects
from rackwright.kinds.pods.report import JOBS, SERVERS, is_over, outcome
from rackwright.kinds.pods.spec import PodsSpec, WorkloadPart
from rackwright.kinds.shared import observation, run_config
from rackwright.kinds.shared.identity import identity_claim, refuse_wrong_machine
from rackwright.kinds.shared.unknown_facts import unknown_fact

UNDECLARED = "undeclared"
"""Property of an object: the paths of values that neither the declaration nor Kubernetes has set."""
_STATE = ("managers", "status", "labels", "generation", "conditions")
"""Parts of an object that change by themselves, or are no part of what it says."""
AUTOSCALER = "HorizontalPodAutoscaler"
_OBJECT = "object:"
_FILE = "/run/rackwright-pods.json"
START_SECONDS = 900
"""Seconds until all pods of a run are there: hosts may read PyTorch from cold drives."""
_REMOVE = """set -eu
export KUBECONFIG=/etc/kubernetes/admin.conf
label=$1 namespace=$2 seconds=$3
sets=
for set in jobsets.jobset.x-k8s.io leaderworkersets.leaderworkerset.x-k8s.io; do
  if kubectl get --raw "/apis/${set#*.}" >/dev/null 2>&1; then sets=$sets$set,; fi
done
kinds=${sets}horizontalpodautoscalers,jobs,deployments,poddisruptionbudgets,services
kubectl -n "$namespace" delete "$kinds" -l "$label" \\
  --cascade=foreground --timeout="${seconds}s"
kubectl -n "$namespace" delete persistentvolumeclaims -l "$label" --timeout=120s
# volumes are in no namespace: those of another team may have the same labels
volumes=$(kubectl get persistentvolumes -l "$label" --output \
  "jsonpath={range .items[?(@.spec.claimRef.namespace=='$namespace')]}{.metadata.name}{' '}{end}")
[ -z "$volumes" ] || kubectl delete persistentvolumes $volumes --timeout=120s
"""


class PodsKind:
    """The kind of the pods of a run or server. Its claim holds while a run runs or has finished, or a server serves."""

    token: ClassVar[str] = "rackwright:kubernetes:Pods"
    spec = PodsSpec

    def id(self, spec: PodsSpec) -> str:
        return spec.id

    def claims(self, spec: PodsSpec, repository: Repository) -> tuple[Claim, ...]:
        running = ("running", "queued") if spec.workload.queue else ("running",)
        outcomes = OneOf((*running, "finished")) if spec.workload.run else "ready"
        return (
            identity_claim(spec.host, spec.identity),
            *(_claim(name, item, spec.workload) for name, item in objects(spec, repository).items()),
            # an autoscaler that is declared no more would go on with its work
            Claim(_thing(spec.workload), {"outcome": outcomes, **({"others": ()} if spec.workload.server else {})}),
        )

    def observe(self, claims: Sequence[Claim], facts: Facts) -> Observation:
        declared = frozenset(each.thing.removeprefix(_OBJECT) for each in claims if each.thing.startswith(_OBJECT))
        return observation.observe(partial(_observe_property, declared, {}), claims, facts)

    def report(self, spec: PodsSpec, facts: Facts) -> dict[str, Any]:
        from rackwright.kinds.pods.report import of_cluster

        return of_cluster(spec, facts)

    def plan(self, spec: PodsSpec, differences: Sequence[Difference], facts: Facts, repository: Repository) -> Plan:
        """Return the plan that sets all objects, and waits until the pods run."""
        if refusals := (*refuse_wrong_machine(spec.host, differences), *_refuse_foreign(spec, facts)):
            return Plan(refusals=refusals)
        if not differences:
            return Plan()
        if unknown := tuple(item for item in differences if item.is_unknown):
            return Plan(by_hand=unknown)
        if refusals := tuple(_refuse_another_config(spec, facts)):
            return Plan(refusals=refusals)
        several = objects(spec, repository)
        ending, again = _ending(spec, several, facts), _again(differences)
        text = json.dumps({"items": list(several.values()), "ending": ending, "again": again})
        workload = spec.workload
        seconds = workload.server.ready_seconds + 60 if workload.server else START_SECONDS
        argv = ("python3", "-c", _script(), _FILE, str(seconds))
        changed = len({item.thing for item in differences})
        admission = "let it wait in its queue until all pods fit" if workload.queue else "admit its pods as a whole"
        what = admission if workload.run else "roll it out"
        return Plan(
            (
                Put(f"write {_FILE}", _FILE, text, 0o600),
                Command(
                    f"set the objects of {workload.name} ({changed} differ), {what}, and wait until its pods run",
                    argv,
                    timeout_seconds=2 * seconds + _stop_seconds(workload) + 300,
                ),
            )
        )

    def removal(self, spec: PodsSpec, facts: Facts, repository: Repository, consent: bool) -> Plan:
        """Return the plan that ends the pods, and deletes all objects."""
        workload = spec.workload
        if refusals := _refuse_foreign(spec, facts):
            return Plan(refusals=refusals)
        if not _own(spec, facts):
            return Plan()
        seconds = _stop_seconds(workload)
        arguments = (f"rackwright.local/{workload.sort}={workload.name}", workload.team, str(seconds + 60))
        argv = ("sh", "-c", _REMOVE, "sh", *arguments)
        text = f"end the pods of {workload.name}, and delete its objects"
        return Plan((Command(text, argv, timeout_seconds=seconds + 400),))

    def consents(self, spec: PodsSpec) -> bool:
        """Return True: checkpoints and models are on the hosts."""
        return True

    def rollout_group(self, spec: PodsSpec) -> None:
        return None


def _own(spec: PodsSpec, facts: Facts) -> tuple[WorkloadObject, ...]:
    """Return the objects of the run or server in the namespace of its team, and the volumes of claims there.

    Operators of another team choose the labels of their objects.
    """
    label, team = f"rackwright.local/{spec.workload.sort}", spec.workload.team
    several = facts.cluster.workloads_of(team) if facts.cluster else ()
    return tuple(each for each in several if each.labels.get(label) == spec.workload.name)


def _ending(spec: PodsSpec, declared: Container[str], facts: Facts) -> list[str]:
    """Return the objects that have to end, without their namespace."""
    workload = spec.workload
    found = _others(facts.cluster, workload.team, workload.sort, workload.name, declared) if facts.cluster else ()
    return [name.partition("/")[2] for name in found]


def _again(differences: Sequence[Difference]) -> list[str]:
    """Return the jobs whose pods differ, without their namespace: their annotation does not prove their content."""
    found = {
        item.thing.removeprefix(_OBJECT).partition("/")[2]
        for item in differences
        if item.thing.startswith(_OBJECT)
        and not isinstance(item.actual, Absent)
        and (item.name == UNDECLARED or item.name.startswith(("spec.template", "spec.replicatedJobs")))
    }
    return sorted(each for each in found if each.partition("/")[0] in JOBS)


def _others(cluster: ClusterFacts, team: str, sort: str, name: str, declared: Container[str]) -> tuple[str, ...]:
    """Return the objects of a run or server that have pods or change their number and are not *declared*.

    Examples are jobs from before the cluster had a queue, and an autoscaler that was declared before.
    """
    kinds = tuple(f"{team}/{kind}/" for kind in (*JOBS, *SERVERS, AUTOSCALER))
    return tuple(
        each
        for each in cluster.workload_objects
        if each not in declared
        and each.startswith(kinds)
        and (found := cluster.workload(each))
        and found.labels.get(f"rackwright.local/{sort}") == name
    )


def _refuse_foreign(spec: PodsSpec, facts: Facts) -> tuple[Diagnostic, ...]:
    """Return a refusal if another fleet has objects of that name, or if that is unknown."""
    try:
        fleets = {each.labels.get(FLEET) for each in _own(spec, facts)} - {spec.fleet}
    except UnknownFact as reason:
        return (unknown_fact(spec.id, reason),)
    if not fleets:
        return ()
    problem = f"the cluster has pods of {spec.workload.name} in fleet {', '.join(sorted(map(str, fleets)))}"
    help = "Give the run or server another name in one of the two fleets"
    return (Diagnostic(spec.id, problem, "one fleet for each run or server", help, id="other-owner"),)


def _refuse_another_config(spec: PodsSpec, facts: Facts) -> Iterator[Diagnostic]:
    """Yield a refusal if the jobs have finished with another configuration, and the fleet does not let them go on."""
    run = spec.workload.run
    if run is None or run.go_on or facts.cluster is None:
        return
    jobs = [facts.cluster.workload(f"{spec.workload.team}/{name}") for name in spec.workload.job_names]
    configs = {each.labels.get(CONFIG) for each in jobs if each is not None and is_over(each)}
    if configs - {config_label(run), None}:
        yield run_config.finished_refusal(spec.id)


@cache
def _script() -> str:
    return Path(__file__).with_name("roll_out.py").read_text()


def _stop_seconds(workload: WorkloadPart) -> int:
    if workload.run:
        return workload.run.grace_seconds + 120
    return workload.server.stop_seconds if workload.server else 0


def _thing(workload: WorkloadPart) -> str:
    return f"pods:{workload.team}/{workload.sort}/{workload.name}"


def _claim(name: str, item: Object, workload: WorkloadPart) -> Claim:
    """Return the claim on each declared value of an object, and that it has no other ones.

    The names of the programs that set values are no part of it: the person who changes an object chooses the name.

    The outcome of a run says whether its jobs are suspended. A job that has finished with the declared configuration
    holds with other values too: it does not run again for them.
    """
    values = dict(leaves({key: item[key] for key in item if key not in ("apiVersion", "kind", "metadata")}))
    values[UNDECLARED] = ()
    want: dict[str, Want] = {**values}
    if workload.run and item["kind"] in JOBS:
        del values["spec.suspend"]
        over = _over(config_label(workload.run))
        want = {key: OneOf((value, over)) for key, value in values.items()}
    remedies = {UNDECLARED: "find out who added the values; `rackwright up` sets the object again"}
    return Claim(f"{_OBJECT}{name}", want, remedies=remedies, remedy_absent="")


def _over(config: str) -> str:
    return f"finished with configuration {config}"


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Scalar]]:
    """Yield each value with its path, such as ``containers[0].image``, and the length of each list of mappings."""
    if isinstance(value, dict) and value:
        for key, each in value.items():
            yield from leaves(each, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list) and value and all(isinstance(each, dict) for each in value):
        yield f"{path}.length", len(value)
        for number, each in enumerate(value):
            yield from leaves(each, f"{path}[{number}]")
    elif isinstance(value, list):
        yield path, tuple(map(str, value))
    else:
        yield path, json.dumps(value) if isinstance(value, dict) or value is None else value


def _observe_property(
    declared: frozenset[str],
    values: dict[str, dict[str, Scalar]],
    facts: Facts,
    sort: str,
    key: str,
    name: str,
    claim: Claim,
) -> Value:
    """Return a property. *values* keeps the values of each object by their paths: a claim has hundreds of them."""
    if sort == "host":
        return observation.identity(facts, name)
    cluster = facts.cluster
    if cluster is None:
        return Absent()
    if sort == "pods":
        team, workload_sort, workload = key.split("/")
        if name == "others":
            return _others(cluster, team, workload_sort, workload, declared)
        return outcome(cluster, team, workload_sort, workload)
    return _value(cluster, values, key, name, claim)


def _value(cluster: ClusterFacts, values: dict[str, dict[str, Scalar]], key: str, name: str, claim: Claim) -> Value:
    want = claim.want[name]
    if cluster.workload(key) is None:
        return Absent()
    item = cluster.workload_objects[key]
    if isinstance(want, OneOf) and (job := cluster.workload(key)) and is_over(job):
        over = _over(str(job.labels.get(CONFIG)))
        if over in want.values:
            return over
    if not isinstance(item, dict) or not isinstance(item.get("spec"), dict):
        raise UnknownFact(f"{key} has another form than the probe writes")
    if key not in values:
        values[key] = dict(leaves({each: value for each, value in item.items() if each not in _STATE}))
    found = values[key]
    if name == UNDECLARED:
        kind = key.split("/")[-2]
        return tuple(sorted(api_defaults.list_undeclared(kind, claim_values(claim), found)))
    return found.get(name, Absent())


def claim_values(claim: Claim) -> dict[str, Scalar]:
    """Return the declared values of an object by their paths."""
    return {
        name: want.values[0] if isinstance(want, OneOf) else want  # type: ignore[misc]
        for name, want in claim.want.items()
        if name != UNDECLARED
    }
