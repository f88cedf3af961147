"""What puts a server on a host, lets it serve another release, and takes it away again."""

from collections.abc import Iterator, Sequence

from rackwright.core.contract import Command, Difference, Plan, Put, Refusal, Remove, Send, Step
from rackwright.core.repository import Repository
from rackwright.facts.facts import Facts
from rackwright.kinds.model_server.files import files, plan_file, release_of, short_keys, watch_files
from rackwright.kinds.model_server.observe import WHOLE
from rackwright.kinds.model_server.spec import ServerSpec
from rackwright.kinds.shared import ownership, service_account
from rackwright.kinds.shared.service_account import UNITS, RefusalTexts, put

REFUSAL_TEXTS = RefusalTexts(
    noun="model server",
    unknown_secret=("got no key", "a server lets in those who have one"),
    mount_purpose="the model is copied from there",
    link_purpose="it is served there",
)
COPY_SECONDS = 3720
"""Seconds for the step that places a model; `workloads.serving.place` gives up after 3600 and removes its copy."""
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
_ENDED = """while [ "$(systemctl show --property=ActiveState --value "$1")" = activating ]; do sleep 1; done
"""
_REMOVE = """set -eu
account=$1 etc=$2 lib=$3
rm -rf "$etc" "$lib"
! getent passwd "$account" > /dev/null || userdel "$account"
"""


def plan(spec: ServerSpec, differences: Sequence[Difference], facts: Facts, repository: Repository) -> Plan:
    """Return what makes *differences* go; the server starts again only where what it serves or reads is another."""
    return service_account.plan(
        spec,
        REFUSAL_TEXTS,
        differences,
        facts,
        refuse=lambda: _unfit(spec, facts, repository),
        make_plan=lambda: _Planner(spec, differences, facts, repository).plan(),
    )


def _unfit(spec: ServerSpec, facts: Facts, repository: Repository) -> Iterator[Refusal]:
    """Refuse a model that is nowhere, and keys that could be found."""
    if not (_has_model(spec, facts) or spec.source or spec.below):
        got = f"got no model of version {spec.version} on {spec.host}, and no directory that has it"
        fix = (
            "Write the path of its directory, run `rackwright server fetch` where it is registered, or write a version"
            " that all hosts have: `rackwright server status` names them"
        )
        yield Refusal(spec.id, got, "a model is somewhere", fix)
    for name in short_keys(spec, repository):
        want = "a key has 32 characters or more: only its digest is kept on hosts, and a short one could be found"
        yield Refusal(spec.id, f"got a secret {name} that is shorter", want, "Set it to 32 random characters or more")


def _has_model(spec: ServerSpec, facts: Facts) -> bool:
    server = facts.server(spec.name)
    return server is not None and server.models.get(spec.version) == WHOLE


class _Planner:
    """One plan for one host of a server."""

    def __init__(
        self, spec: ServerSpec, differences: Sequence[Difference], facts: Facts, repository: Repository
    ) -> None:
        self.spec, self.facts, self.repository = spec, facts, repository
        self.wrong = {item.thing for item in differences}
        self.files = [file for file in files(spec, repository) if f"file:{file.path}" in self.wrong]

    def plan(self) -> Plan:
        spec = self.spec
        changed = {file.path for file in self.files}
        read = changed - {plan_file(spec), *watch_files(spec)}  # these are not the server's
        switches = bool(read) or bool(self.wrong & {f"server:{spec.name}", f"model:{spec.name}/{spec.version}"})
        steps: list[Step] = [self._note("creating")] if self.facts.owner(spec.owner) is None else []
        watch = bool(self.wrong & {*(f"file:{path}" for path in watch_files(spec)), f"unit:{spec.watch_units[1]}"})
        if watch and spec.watch is None:
            steps += _unwatched(spec, self.facts)
        if self.wrong & {f"user:{spec.account}", f"directory:{spec.etc}", f"directory:{spec.lib}"}:
            steps.append(_run(f"make the account {spec.account}", "sh", "-c", _ACCOUNT, "sh", spec.account))
            places = (spec.account, spec.etc, spec.lib)
            steps.append(_run(f"make {spec.etc} and {spec.lib}", "sh", "-c", _PLACES, "sh", *places))
        steps += [put(file, spec) for file in self.files]
        if any(path.startswith(UNITS) for path in changed):
            steps.append(_run("let systemd read its units", "systemctl", "daemon-reload"))
        if switches:
            steps += self._model()
            steps.append(self._switch())
        if f"unit:{spec.unit}" in self.wrong:
            steps.append(_run(f"start {spec.unit} at boot, too", "systemctl", "enable", spec.unit))
        if watch and spec.watch:
            timer = spec.watch_units[1]
            steps.append(_run(f"start {timer} at boot", "systemctl", "enable", "--quiet", timer))
            every = f"look at what is served every {spec.watch.every_seconds // 60} min"
            steps.append(_run(every, "systemctl", "restart", timer))
        steps.append(self._note("ready"))
        texts = {file.path: file.content for file in self.files if isinstance(file.content, str) and not file.secret}
        return Plan(tuple(steps), texts=texts)

    def _model(self) -> Iterator[Step]:
        """Yield what puts the model on the host, unless it is there, and the canary's rows beside it."""
        spec = self.spec
        models, owner = f"{spec.lib}/models", f"root:{spec.account}"
        if not _has_model(spec, self.facts):
            what = f"{spec.model} {spec.version}".strip()
            copied = ("--copy", spec.below) if spec.below else ()
            if spec.source and not spec.below:
                partial = f"{models}/.{spec.version}.partial"
                yield _run(f"clear {partial}", "sh", "-c", _CLEAR, "sh", partial)
                for name, sha256 in spec.files.items():
                    yield Send(
                        f"send {what}: {name}", f"{spec.source}/{name}", f"{partial}/{name}", sha256, 0o640, owner
                    )
            floor = () if spec.accuracy_kept is None else ("--accuracy-kept", str(spec.accuracy_kept))
            text = f"copy {what} from {spec.below}, and prove it" if spec.below else f"prove {what}"
            yield self._python(text, COPY_SECONDS, "place", models, spec.version, *copied, *floor)
        if spec.canary and spec.data:
            yield Send(
                f"send the canary's rows, {spec.data}", spec.canary.source, spec.data, spec.canary.sha256, 0o640, owner
            )

    def _switch(self) -> Command:
        spec = self.spec
        release = release_of(spec, self.repository)
        judged = f", with {spec.canary.accuracy:.2%} of the canary right" if spec.canary else ""
        text = f"serve version {spec.version} (release {release}), and wait until it is ready{judged}"
        seconds = spec.switch_seconds + (spec.watch_seconds if spec.watch else 0)
        return self._python(text, seconds, "switch", plan_file(spec), release)

    def _python(self, text: str, seconds: float, module: str, *arguments: str) -> Command:
        """Return the step that runs a module of the release as root, in the environment that serves."""
        spec = self.spec
        archive = f"{spec.lib}/releases/{release_of(spec, self.repository)}/workloads.zip"
        argv = ("env", f"PYTHONPATH={archive}", "PYTHONDONTWRITEBYTECODE=1", "PYTHONUNBUFFERED=1", spec.python)
        return _run(text, *argv, "-m", f"workloads.serving.{module}", *arguments, seconds=seconds)

    def _note(self, phase: str) -> Put:
        spec = self.spec
        text = ownership.owner_text(spec.id, spec.fleet, phase)
        return Put(f"note in the owner file: {phase}", ownership.owner_file(spec.owner), text, 0o600)


def removal(spec: ServerSpec, facts: Facts) -> Plan:
    """Return what stops the server here and takes its account, keys, models and files away."""
    if refusals := ownership.refuse_foreign(spec.id, spec.fleet, spec.owner, REFUSAL_TEXTS.noun, facts):
        return Plan(refusals=refusals)
    if facts.owner(spec.owner) is None:
        return Plan()
    steps: list[Step] = [*_unwatched(spec, facts)]
    if facts.unit(spec.unit) is not None:
        text = f"stop {spec.unit}, which answers what is under way"
        steps.append(_run(text, "systemctl", "disable", "--now", spec.unit, seconds=spec.stop_seconds + 60))
    steps.append(Remove(f"remove {spec.unit}", f"{UNITS}/{spec.unit}"))
    steps.append(_run("let systemd read its units", "systemctl", "daemon-reload"))
    places = (spec.account, spec.etc, spec.lib)
    text = f"remove the account {spec.account}, its keys, and the models in {spec.lib}"
    steps.append(_run(text, "sh", "-c", _REMOVE, "sh", *places))
    steps.append(Remove("remove the owner file", ownership.owner_file(spec.owner)))
    where = spec.source or spec.below
    return Plan(tuple(steps), notes=(f"{where} stays: what it was copied from",) if where else ())


def _unwatched(spec: ServerSpec, facts: Facts) -> Iterator[Step]:
    """Yield what takes the watch away; a look that is under way comes to its end."""
    service, timer = spec.watch_units
    there = [path for path in watch_files(spec) if facts.file(path) is not None]
    if not there:
        return
    if facts.unit(timer) is not None:
        yield _run(f"stop {timer}", "systemctl", "disable", "--quiet", "--now", timer)
    if facts.unit(service) is not None:
        # to stop it could leave the server half on its way back
        yield _run(f"let {service} end", "sh", "-c", _ENDED, "sh", service, seconds=spec.watch_seconds + 60)
    for path in there:
        yield Remove(f"remove {path}", path)
    yield _run("let systemd read its units", "systemctl", "daemon-reload")


def _run(text: str, *argv: str, seconds: float = 600) -> Command:
    return Command(text, argv, timeout_seconds=seconds)
