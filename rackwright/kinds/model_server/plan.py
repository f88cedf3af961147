"""The plan of a model server on one host: install it, switch its release, and remove it."""

import json
from collections.abc import Iterator, Sequence

from rackwright.core.contract import Command, Difference, Plan, Put, Remove, Send, Step
from rackwright.core.repository import Repository
from rackwright.errors import Diagnostic
from rackwright.facts.facts import Facts
from rackwright.kinds.model_server import adapters
from rackwright.kinds.model_server.files import files, plan_file, release_of, short_keys, watch_files
from rackwright.kinds.model_server.observe import is_whole
from rackwright.kinds.model_server.spec import ServerSpec
from rackwright.kinds.shared import firewall, gpu_assignment, loaded, ownership, service_account, service_directories
from rackwright.kinds.shared.service_account import UNITS, RefusalTexts, put
from rackwright.schema.secret import CLIENT_KEY_SHORTEST

REFUSAL_TEXTS = RefusalTexts(
    noun="model server",
    secrets="the keys of the clients",
    mount="the mount from which the model is copied",
    link="the link on which the server listens",
)
COPY_SECONDS = 3720
"""Seconds for the step that places a model; `workloads.serving.place` stops after 3600 s and removes its copy."""
LOAD_SECONDS = 360
"""Seconds for the step that loads adapters; `workloads.serving.load_adapters` stops waiting after 300 s."""
PYTHON = ("PYTHONSAFEPATH=1", "PYTHONDONTWRITEBYTECODE=1", "PYTHONUNBUFFERED=1")
"""Variables of root's Python, which imports nothing from the directory that it is started in."""
_ACCOUNT = """set -eu
account=$1
getent passwd "$account" > /dev/null || useradd --system --user-group --no-create-home "$account"
usermod --home /nonexistent --shell /usr/sbin/nologin --password '*' --groups '' "$account"
"""
_PLACES = """set -eu
account=$1 etc=$2 lib=$3
install -d -m 0755 -o root -g root "$(dirname "$etc")" "$(dirname "$lib")"
install -d -m 0750 -o root -g "$account" "$etc" "$lib" "$lib/models" "$lib/releases" "$lib/data"
chown -hR "root:$account" "$lib"
chmod -R u=rwX,g=rX,o= "$lib"
"""
_CLEAR = """set -eu
rm -rf "$1"
install -d -m 0700 -o root -g root "$1"
"""
_WAIT_FOR_END = """while [ "$(systemctl show --property=ActiveState --value "$1")" = activating ]; do sleep 1; done
"""
_REMOVE = """set -eu
account=$1 etc=$2 lib=$3 state=$4
rm -rf "$etc" "$lib" "$state"
! getent passwd "$account" > /dev/null || userdel "$account"
"""


def plan(spec: ServerSpec, differences: Sequence[Difference], facts: Facts, repository: Repository) -> Plan:
    """Return the plan that removes *differences*; the server restarts only for another release or changed files."""
    return service_account.plan(
        spec,
        REFUSAL_TEXTS,
        firewall.without_tables(differences),
        facts,
        refuse=lambda: (
            *(firewall.refuse_without_nftables(spec.firewall, differences) if spec.firewall else ()),
            *_refuse_unfit(spec, facts, repository),
            *gpu_assignment.refusals(spec, spec.gpus, facts),
        ),
        make_plan=lambda: _Planner(spec, differences, facts, repository).plan(),
    )


def _refuse_unfit(spec: ServerSpec, facts: Facts, repository: Repository) -> Iterator[Diagnostic]:
    """Yield refusals of a model without a source, and of short keys."""
    if not (_has_model(spec, facts) or spec.source or spec.below):
        problem = f"{spec.host} has no model of version {spec.version}, and the declaration names no directory with it"
        help = (
            "Write the path of its directory, run `rackwright server fetch` for a registered model, or write a version"
            " that all hosts have: `rackwright server status` lists them"
        )
        yield Diagnostic(spec.id, problem, "a source of the model", help)
    for name in short_keys(spec, repository):
        yield Diagnostic(
            spec.id,
            f"the secret {name} is a short key",
            f"at least {CLIENT_KEY_SHORTEST} characters",
            f"Set it to {CLIENT_KEY_SHORTEST} random characters or more",
            "hosts keep a digest of each key, from which a short key could be guessed",
        )


def _has_model(spec: ServerSpec, facts: Facts) -> bool:
    return is_whole(facts.server(spec.name), spec.version, spec.files)


class _Planner:
    """One plan for one host of a server."""

    def __init__(
        self, spec: ServerSpec, differences: Sequence[Difference], facts: Facts, repository: Repository
    ) -> None:
        self.spec, self.facts, self.repository = spec, facts, repository
        self.others = [*service_directories.remove_others(differences)]
        self.different = {item.thing for item in differences if not service_directories.is_names(item)}
        self.missing = {item.name for item in differences if item.thing == f"server_files:{spec.name}"}
        self.assigns = gpu_assignment.differs(spec, self.different)
        self.files = [file for file in files(spec, repository) if f"file:{file.path}" in self.different]

    def plan(self) -> Plan:
        spec = self.spec
        changed_paths = {file.path for file in self.files}
        # the server does not read these, or reads them again while it runs
        server_files = changed_paths - {plan_file(spec), spec.adapters_file, *watch_files(spec)}
        adapts = bool({f"file:{spec.adapters_file}", f"adapters:{spec.name}"} & self.different)
        switches = (
            self.assigns
            or (adapts and spec.replica is not None)  # vLLM of other hosts does not load adapters by itself
            or bool(server_files)
            or any(thing.startswith(f"{loaded.SORT}:") for thing in self.different)
            or bool(self.different & {f"server:{spec.name}", f"model:{spec.name}/{spec.version}"})
        )
        steps: list[Step] = [self._note("creating")] if self.facts.owner(spec.owner) is None else []
        watch = bool(self.different & {*(f"file:{path}" for path in watch_files(spec)), f"unit:{spec.watch_units[1]}"})
        if watch and spec.watch is None:
            steps += _remove_watch(spec, self.facts)
        if self.different & {f"user:{spec.account}", f"directory:{spec.etc}", f"directory:{spec.lib}"}:
            steps.append(_run(f"create the account {spec.account}", "sh", "-c", _ACCOUNT, "sh", spec.account))
            places = (spec.account, spec.etc, spec.lib)
            steps.append(_run(f"create {spec.etc} and {spec.lib}", "sh", "-c", _PLACES, "sh", *places))
        steps += gpu_assignment.steps(spec, spec.gpus, self.facts) if self.assigns else []
        steps += [put(file, spec) for file in self.files if file.path != spec.adapters_file]
        if adapts:
            steps += adapters.place(spec, self.facts, self._python)
            # the server may start at any moment, and would not start with adapters that are not there
            steps += [put(file, spec) for file in self.files if file.path == spec.adapters_file]
        if any(path.startswith(UNITS) for path in changed_paths):
            steps.append(_run("reload systemd", "systemctl", "daemon-reload"))
        steps += self._files(switches)
        if switches:
            steps += self._model()
            steps.append(self._switch())  # the unit loads its table before the server starts
        elif adapts and spec.adapters:
            text = f"load the adapters {', '.join(spec.adapters)}, while the server runs"
            described = (plan_file(spec), spec.adapters_file)
            steps.append(self._python(text, LOAD_SECONDS, "load_adapters", *described))
        if adapts:
            steps += adapters.sweep(spec, self.facts)
        if not switches and (table := spec.firewall) and table.thing in self.different:
            steps.append(firewall.load(table))
        if f"unit:{spec.unit}" in self.different:
            steps.append(_run(f"start {spec.unit} at boot, too", "systemctl", "enable", spec.unit))
        if watch and spec.watch and spec.watch.every_seconds:
            timer = spec.watch_units[1]
            steps.append(_run(f"start {timer} at boot", "systemctl", "enable", "--quiet", timer))
            text = f"check the canary every {spec.watch.every_seconds // 60} min"
            steps.append(_run(text, "systemctl", "restart", timer))
        steps += self.others
        steps.append(self._note("ready"))
        texts = {file.path: file.content for file in self.files if isinstance(file.content, str) and not file.secret}
        return Plan(tuple(steps), texts=texts)

    def _model(self) -> Iterator[Step]:
        """Yield the steps that place the model on the host, unless it is there, and the canary's rows."""
        spec = self.spec
        models, owner = f"{spec.lib}/models", f"root:{spec.account}"
        if not _has_model(spec, self.facts):
            model = f"{spec.model} {spec.version}".strip()
            copy = ("--copy", spec.below) if spec.below else ()
            if spec.source and not spec.below:
                partial = f"{models}/.{spec.version}.partial"
                yield _run(f"clear {partial}", "sh", "-c", _CLEAR, "sh", partial)
                for name, sha256 in spec.files.items():
                    yield Send(
                        f"send {model}: {name}", f"{spec.source}/{name}", f"{partial}/{name}", sha256, 0o640, owner
                    )
            kept = spec.declared.gate.accuracy_kept
            floor = () if kept is None else ("--accuracy-kept", str(kept))
            text = f"copy {model} from {spec.below}, and verify it" if spec.below else f"verify {model}"
            yield self._python(text, COPY_SECONDS, "place", models, spec.version, *copy, *floor)
        yield from self._rows()

    def _rows(self) -> Iterator[Step]:
        spec = self.spec
        if spec.rows and spec.data:
            text, owner = f"send the canary's rows, {spec.data}", f"root:{spec.account}"
            yield Send(text, spec.rows.source, spec.data, spec.rows.sha256, 0o640, owner)

    def _files(self, switches: bool) -> Iterator[Step]:
        """Yield the steps that remove the files that no release uses, and write those that are missing."""
        spec, server = self.spec, self.facts.server(self.spec.name)
        if server is None:
            return
        others = [name for name in server.others if ".." not in name.split("/") and not name.startswith("/")]
        if "others" in self.missing and others:
            paths = [f"{spec.lib}/{name}" for name in others]
            yield _run(f"remove the files that no release uses: {', '.join(paths)}", "rm", "-rf", "--", *paths)
        if "state" in self.missing and not switches:
            text = json.dumps({"previous": None, "refused": None}, indent=1) + "\n"
            path = f"{spec.lib}/state.json"
            yield Put(f"write {path}, without a previous release", path, text, 0o640, f"root:{spec.account}")
        if "rows" in self.missing and not switches:
            yield from self._rows()

    def _switch(self) -> Command:
        spec = self.spec
        release = release_of(spec, self.repository)
        canary = spec.declared.canary
        condition = f", with {canary.accuracy:.2%} of the canary right" if canary else ""
        text = f"serve version {spec.version} (release {release}), and wait until it is ready{condition}"
        seconds = spec.switch_seconds + (spec.watch_seconds if spec.watch else 0)
        return self._python(text, seconds, "switch", plan_file(spec), release)

    def _python(self, text: str, seconds: float, module: str, *arguments: str) -> Command:
        """Return the step that runs a module of the release as root, in the server's environment."""
        spec = self.spec
        archive = f"{spec.lib}/releases/{release_of(spec, self.repository)}/workloads.zip"
        argv = ("env", f"PYTHONPATH={archive}", *PYTHON, spec.python)
        return _run(text, *argv, "-m", f"workloads.serving.{module}", *arguments, seconds=seconds)

    def _note(self, phase: str) -> Put:
        spec = self.spec
        text = ownership.owner_text(spec.id, spec.fleet, phase)
        return Put(f"note in the owner file: {phase}", ownership.owner_file(spec.owner), text, 0o600)


def removal(spec: ServerSpec, facts: Facts) -> Plan:
    """Return the plan that stops the server and removes its account, keys, models and files."""
    if refusals := ownership.refuse_foreign(spec.id, spec.fleet, spec.owner, REFUSAL_TEXTS.noun, facts):
        return Plan(refusals=refusals)
    if facts.owner(spec.owner) is None:
        return Plan()
    steps: list[Step] = [*_remove_watch(spec, facts)]
    if facts.unit(spec.unit) is not None:
        text = f"stop {spec.unit}, which completes running requests"
        steps.append(_run(text, "systemctl", "disable", "--now", spec.unit, seconds=spec.stop_seconds + 60))
    steps.append(Remove(f"remove {spec.unit}", f"{UNITS}/{spec.unit}"))
    steps.append(_run("reload systemd", "systemctl", "daemon-reload"))
    places = (spec.account, spec.etc, spec.lib, spec.state)
    text = f"remove the account {spec.account}, its keys, and the models in {spec.lib}"
    steps.append(_run(text, "sh", "-c", _REMOVE, "sh", *places))
    steps += gpu_assignment.removal(spec, spec.gpus)
    steps.append(Remove("remove the owner file", ownership.owner_file(spec.owner)))
    source = spec.source or spec.below
    return Plan(tuple(steps), notes=(f"{source} stays: the source of the model",) if source else ())


def _remove_watch(spec: ServerSpec, facts: Facts) -> Iterator[Step]:
    """Yield the steps that remove the watch; a running canary check ends first."""
    service, timer = spec.watch_units
    paths = [path for path in watch_files(spec) if facts.file(path) is not None]
    if not paths:
        return
    if facts.unit(timer) is not None:
        yield _run(f"stop {timer}", "systemctl", "disable", "--quiet", "--now", timer)
    if facts.unit(service) is not None:
        # a stop could interrupt the return to the previous release
        text = f"wait for the end of {service}"
        yield _run(text, "sh", "-c", _WAIT_FOR_END, "sh", service, seconds=spec.watch_seconds + 60)
    for path in paths:
        yield Remove(f"remove {path}", path)
    yield _run("reload systemd", "systemctl", "daemon-reload")


def _run(text: str, *argv: str, seconds: float = 600) -> Command:
    return Command(text, argv, timeout_seconds=seconds)
