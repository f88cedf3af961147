"""The kind of what a run or server in pods needs on a host: its release, its model, and the image of all pods."""

import base64
from collections.abc import Container, Iterator, Sequence
from functools import partial
from typing import Any, ClassVar

from rackwright.core.contract import (
    Claim,
    Command,
    Difference,
    Observation,
    Plan,
    Put,
    Remove,
    Send,
    Step,
    Value,
)
from rackwright.core.repository import Repository
from rackwright.errors import Diagnostic
from rackwright.facts.facts import Facts
from rackwright.kinds.model_server.observe import model_claim, observe_model
from rackwright.kinds.pods import image, mounts
from rackwright.kinds.pods.release import ARCHIVE, directory, files
from rackwright.kinds.pods.spec import LIB, PodFilesSpec, ServerPart
from rackwright.kinds.shared import observation, ownership, run_config, service_account
from rackwright.kinds.shared.identity import identity_claim
from rackwright.kinds.shared.service_account import RefusalTexts, put

COPY_SECONDS = 3720
"""Seconds for the step that verifies a model; `workloads.serving.place` stops after 3600 s."""
REFUSAL_TEXTS = RefusalTexts(
    noun="run or server in pods",
    secrets="the secrets of the pods",
    mount="the tier for the checkpoints of the run",
    link="the link of the pods",
)
_IMAGE = f"{LIB}/image.tar"
_PLACES = """set -eu
account=$1 etc=$2 lib=$3 out=$4 keys=$5
install -d -m 0755 "$(dirname "$etc")" "$etc" "$lib"
[ -z "$keys" ] || install -d -m 0750 -g "$account" "$keys"
if [ -n "$out" ]; then
  install -d -m 0755 "$(dirname "$out")"
  install -d -m 0750 "$out"
  chown -hR "$account:$account" "$out"
fi
"""
_MODELS = """set -eu
install -d -m 0750 -g "$1" "$2/models" "$2/data"
rm -rf "$2/models/.$3.partial"
install -d -m 0700 "$2/models/.$3.partial"
"""
_SWEEP = """set -eu
lib=$1 kept=$2
# the newest three directories are the declared release, and those that running pods may have
for folder in "$lib" "$lib/models"; do
  [ -d "$folder" ] || continue
  ls -1t "$folder" | grep -xE '[0-9a-f]{12}' | grep -vxF "$kept" | tail -n +3 | while read -r old; do
    rm -rf "${folder:?}/$old"
  done
done
"""
_REMOVE = """set -eu
etc=$1 lib=$2 out=$3
rm -rf "$etc" "$lib"
[ -z "$out" ] || [ ! -d "$out" ] || chown -hR root:root "$out"
"""


class PodFilesKind:
    """The kind of the files of a run or server in pods."""

    token: ClassVar[str] = "rackwright:kubernetes:PodFiles"
    spec = PodFilesSpec

    def id(self, spec: PodFilesSpec) -> str:
        return spec.id

    def claims(self, spec: PodFilesSpec, repository: Repository) -> tuple[Claim, ...]:
        workload, (digest, _) = spec.workload, image.archive()
        service = _Service(spec)
        mount = workload.run.mount if workload.run else None
        return (
            identity_claim(spec.host, spec.identity),
            *((Claim(f"mount:{mount}", {"present": True}, owned=False),) if mount else ()),
            Claim(f"directory:{workload.lib}", {"mode": "0755", "owner": "root:root"}),
            *(service_account.claim(file, service, repository) for file in files(spec, repository)),
            *mounts.claims(workload),
            *_model_claims(spec),
            *_key_claims(spec),
            Claim(f"image:{digest}", {"present": True}, owned=False),
            Claim(f"owner:{workload.owner}", {"id": spec.id, "fleet": spec.fleet, "phase": "ready"}),
        )

    def observe(self, claims: Sequence[Claim], facts: Facts) -> Observation:
        return observation.observe(partial(_observe_property, mounts.names_in(claims)), claims, facts)

    def report(self, spec: PodFilesSpec, facts: Facts) -> dict[str, Any]:
        from rackwright.kinds.pods.report import of_host

        return of_host(spec, facts)

    def plan(self, spec: PodFilesSpec, differences: Sequence[Difference], facts: Facts, repository: Repository) -> Plan:
        """Return the plan that writes the release beside those of running pods, and imports the image."""
        return service_account.plan(
            _Service(spec),
            REFUSAL_TEXTS,
            differences,
            facts,
            refuse=lambda: (
                *_refuse_without_model(spec, differences),
                *_refuse_another_config(spec, differences, facts),
            ),
            make_plan=lambda: Plan(tuple(_steps(spec, differences, facts, repository))),
        )

    def removal(self, spec: PodFilesSpec, facts: Facts, repository: Repository, consent: bool) -> Plan:
        """Return the plan that removes the files; the output of a run stays."""
        workload = spec.workload
        if refusals := ownership.refuse_foreign(spec.id, spec.fleet, workload.owner, REFUSAL_TEXTS.noun, facts):
            return Plan(refusals=refusals)
        if facts.owner(workload.owner) is None:
            return Plan()
        argv = ("sh", "-c", _REMOVE, "sh", workload.etc, workload.lib, workload.out or "")
        notes = (f"{workload.out} stays: metrics and checkpoints",) if workload.out else ()
        steps = (
            mounts.removal_step(workload),
            Command(f"remove {workload.etc} and {workload.lib}", argv),
            Remove("remove the owner file", ownership.owner_file(workload.owner)),
        )
        return Plan(steps, notes=notes)

    def consents(self, spec: PodFilesSpec) -> bool:
        """Return True: checkpoints stay on the tier, and models are copies."""
        return True

    def rollout_group(self, spec: PodFilesSpec) -> None:
        return None


class _Service:
    """The files as those of a service whose account is root."""

    def __init__(self, spec: PodFilesSpec) -> None:
        self.id, self.host, self.fleet, self.owner = spec.id, spec.host, spec.fleet, spec.workload.owner
        self.account = "root"


def _model_claims(spec: PodFilesSpec) -> Iterator[Claim]:
    if server := spec.workload.server:
        yield model_claim(spec.workload.name, server.version, server.files)
        if server.rows:
            path = f"{spec.workload.lib}/data/{server.rows.sha256[:12]}.npz"
            yield Claim(f"file:{path}", {"mode": "0644", "owner": "root:root"})


def _key_claims(spec: PodFilesSpec) -> Iterator[Claim]:
    if spec.workload.server and spec.workload.server.lease_secret:
        yield Claim(f"directory:{spec.workload.keys}", {"mode": "0750", "owner": f"root:{image.ACCOUNT}"})


def _observe_property(declared: Container[str], facts: Facts, sort: str, key: str, name: str, claim: Claim) -> Value:
    match sort:
        case "image":
            return any(key in each.digests for each in facts.images("containerd"))
        case "model":
            return observe_model(facts, key, name)
        case "mounts":
            return mounts.undeclared_mounts(facts, key, declared)
        case "mount" if name != "present":
            return mounts.observe(facts, key, name, claim.want.get("path"))
        case _:
            return observation.service(facts, sort, key, name)


def _refuse_without_model(spec: PodFilesSpec, differences: Sequence[Difference]) -> Iterator[Diagnostic]:
    server = spec.workload.server
    if server and not server.source and any(item.thing.startswith("model:") for item in differences):
        problem = f"{spec.host} has no model of version {server.version}, and this computer has not either"
        help = "Write the path of its directory, or run `rackwright server fetch` for a registered model"
        yield Diagnostic(spec.id, problem, "a source of the model", help)


def _refuse_another_config(spec: PodFilesSpec, differences: Sequence[Difference], facts: Facts) -> Iterator[Diagnostic]:
    workload = spec.workload
    found = facts.run(workload.name) if workload.run else None
    if workload.run and found and any(item.thing == f"file:{workload.etc}/config.json" for item in differences):
        yield from run_config.refuse_another_config(spec.id, found, workload.run.config, workload.run.go_on)


def _steps(
    spec: PodFilesSpec, differences: Sequence[Difference], facts: Facts, repository: Repository
) -> Iterator[Step]:
    workload, different = spec.workload, {item.thing for item in differences}
    yield _note(spec, "creating")
    keys = workload.keys if workload.server and workload.server.lease_secret else ""
    places = (str(image.ACCOUNT), workload.etc, workload.lib, workload.out or "", keys)
    yield Command(f"create {', '.join(filter(None, places[1:]))}", ("sh", "-c", _PLACES, "sh", *places))
    service = _Service(spec)
    yield from (put(file, service) for file in files(spec, repository) if f"file:{file.path}" in different)
    digest, archive = image.archive()
    if f"image:{digest}" in different:
        yield Put(f"write {_IMAGE}", _IMAGE, base64.b64encode(archive).decode(), base64=True)
        argv = ("ctr", "--namespace", "k8s.io", "images", "import", _IMAGE)
        yield Command(f"import the image {image.name()}", argv)
    yield from mounts.steps(workload, different, facts)
    if workload.server:
        yield from _model(spec, workload.server, different, repository)
    kept = directory(workload, repository).rpartition("/")[2]
    yield Command("remove old releases", ("sh", "-c", _SWEEP, "sh", workload.lib, kept))
    yield _note(spec, "ready")


def _model(spec: PodFilesSpec, server: ServerPart, different: set[str], repository: Repository) -> Iterator[Step]:
    workload = spec.workload
    lib, models = workload.lib, f"{workload.lib}/models"
    group = str(image.ACCOUNT)
    if f"model:{workload.name}/{server.version}" in different:
        yield Command(f"clear {models}", ("sh", "-c", _MODELS, "sh", group, lib, server.version))
        for name, sha256 in server.files.items():
            text, path = f"send {server.model} {server.version}: {name}", f"{models}/.{server.version}.partial/{name}"
            yield Send(text, f"{server.source}/{name}", path, sha256, 0o640, "root:root")
        kept = () if server.accuracy_kept is None else ("--accuracy-kept", str(server.accuracy_kept))
        code = f"{directory(workload, repository)}/{ARCHIVE}"
        python = ("env", f"PYTHONPATH={code}", "PYTHONSAFEPATH=1", "PYTHONDONTWRITEBYTECODE=1", workload.python)
        argv = (*python, "-m", "workloads.serving.place", models, server.version, *kept)
        yield Command(f"verify {server.model} {server.version}", argv, timeout_seconds=COPY_SECONDS)
    if rows := server.rows:
        path = f"{lib}/data/{rows.sha256[:12]}.npz"
        if f"file:{path}" in different:
            yield Send(f"send the canary's rows, {path}", rows.source, path, rows.sha256, 0o644, "root:root")


def _note(spec: PodFilesSpec, phase: str) -> Put:
    owner = spec.workload.owner
    text = ownership.owner_text(spec.id, spec.fleet, phase)
    return Put(f"note in the owner file: {phase}", ownership.owner_file(owner), text, 0o600)
