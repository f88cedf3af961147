"""The plan of a run on one host: install, start, change and remove it; checkpoints always stay."""

from collections.abc import Iterator, Sequence

from rackwright.core.contract import Command, Difference, Plan, Put, Remove, Step
from rackwright.core.repository import Repository
from rackwright.errors import Diagnostic
from rackwright.facts.facts import Facts
from rackwright.kinds.shared import (
    firewall,
    gpu_assignment,
    loaded,
    ownership,
    run_config,
    service_account,
    service_directories,
)
from rackwright.kinds.shared.service_account import UNITS, RefusalTexts, put
from rackwright.kinds.training_run.files import SSHD_FILES, files
from rackwright.kinds.training_run.observe import RUNNING_STATES, is_finished, outcome
from rackwright.kinds.training_run.spec import TrainingSpec

FIRST_STEP_SECONDS = 900
"""Seconds until the first step: every host imports PyTorch, from drives that may be cold."""
REFUSAL_TEXTS = RefusalTexts(
    noun="training run",
    secrets="the keys of the run, which starts only with all of its files",
    mount="the tier for the checkpoints of the run",
    link="the link over which the processes of the run communicate",
)
_ACCOUNT = """set -eu
account=$1 home=$2
getent passwd "$account" > /dev/null || useradd --system --user-group --no-create-home "$account"
usermod --home "$home" --shell /bin/sh --password '*' --groups '' "$account"
"""
_PLACES = """set -eu
account=$1 etc=$2 home=$3 logs=$4 out=$5
install -d -m 0755 -o root -g root "$(dirname "$etc")" "$(dirname "$home")" "$(dirname "$logs")" "$(dirname "$out")"
install -d -m 0750 -o root -g "$account" "$etc" "$logs"
install -d -m 0700 -o "$account" -g "$account" "$home"
install -d -m 0750 "$out"
# root owns the checkpoints of an earlier run of that name
chown -hR "$account:$account" "$out"
if [ ! -e "$logs/log" ]; then
  install -m 0640 -o root -g "$account" /dev/null "$logs/log"
  # Earlier versions wrote the log into the account's own directory. The account copies it with its own rights, so root
  # never opens a file that the account may have put there instead.
  timeout -k 5 60 runuser -u "$account" -- tail -c 16777216 "$home/log" >> "$logs/log" 2> /dev/null || true
fi
"""
_LEDGER = """set -eu
account=$1 ledger=$2
# an account that charged it first keeps it: a ledger changes hands by no run
[ ! -e "$ledger" ] || exit 0
# root follows no link that another account has put into the path: each part is entered, and compared with its name
cd /
rest=${ledger#/} path=
while [ -n "$rest" ]; do
  part=${rest%%/*} path=$path/${rest%%/*}
  case $rest in */*) rest=${rest#*/} ;; *) rest= ;; esac
  [ -e "$part" ] || [ -L "$part" ] || mkdir -m 0755 -- "$part"
  cd -P -- "$part"
  [ "$(pwd -P)" = "$path" ] || { echo "$path is a link, and a ledger lies behind none" >&2; exit 1; }
done
chown -- "$account:$account" .
chmod 0700 .
"""
_AWAIT = """set -eu
unit=$1 account=$2 archive=$3 path=$4 home=$5 python=$6 plan=$7 seconds=$8
if ! runuser -u "$account" -- env HOME="$home" PATH="$path" PYTHONPATH="$archive" PYTHONSAFEPATH=1 \
    "$python" -m workloads.training.hosts "$plan" await --seconds "$seconds"; then
  systemctl stop "$unit"
  exit 4
fi
"""
_REMOVE = """set -eu
account=$1 etc=$2 opt=$3 home=$4 logs=$5 out=$6
rm -rf "$etc" "$opt" "$home" "$logs"
# a later account may get the same number
[ ! -d "$out" ] || chown -hR root:root "$out"
! getent passwd "$account" > /dev/null || userdel "$account"
"""


def plan(spec: TrainingSpec, differences: Sequence[Difference], facts: Facts, repository: Repository) -> Plan:
    """Return the plan that removes *differences*; it restarts only units that are stopped or whose files changed."""
    return service_account.plan(
        spec,
        REFUSAL_TEXTS,
        firewall.without_tables(differences),
        facts,
        refuse=lambda: (
            *firewall.refuse_without_nftables(spec.firewall, differences),
            *_refuse_another_config(spec, differences, facts),
            *gpu_assignment.refusals(spec, spec.gpus, facts),
        ),
        make_plan=lambda: _Planner(spec, differences, facts, repository).plan(),
    )


def _refuse_another_config(spec: TrainingSpec, differences: Sequence[Difference], facts: Facts) -> Iterator[Diagnostic]:
    run = facts.run(spec.name)
    if run is not None and any(item.thing == f"file:{spec.etc}/config.json" for item in differences):
        yield from run_config.refuse_another_config(spec.id, run, spec.config, spec.declared.go_on)


class _Planner:
    """One plan for one host of a run."""

    def __init__(
        self, spec: TrainingSpec, differences: Sequence[Difference], facts: Facts, repository: Repository
    ) -> None:
        self.spec, self.facts = spec, facts
        self.others = [*service_directories.remove_others(differences)]
        self.different = {item.thing for item in differences if not service_directories.is_names(item)}
        self.assigns = gpu_assignment.differs(spec, self.different)
        self.is_launcher = spec.host == spec.launcher_host.name
        self.files = [file for file in files(spec, repository) if f"file:{file.path}" in self.different]
        unit = facts.unit(spec.unit)
        self.is_running = unit is not None and unit.active in RUNNING_STATES
        self.state = outcome(facts, spec.name, on_worker=not self.is_launcher)
        run = facts.run(spec.name)
        # a finished run with another configuration goes on: the fleet consented, or the plan would be refused
        self.is_over = is_finished(spec, facts) and run is not None and run_config.has_config(run, spec.config)

    def plan(self) -> Plan:
        spec = self.spec
        changed_paths = [file.path for file in self.files]
        restarts = self.is_running and self._needs_restart(changed_paths)
        steps: list[Step] = [self._note("creating")] if self.facts.owner(spec.owner) is None else []
        if restarts and self.is_launcher:
            steps.append(_run(f"stop {spec.name}, which saves first", "systemctl", "stop", spec.unit))
        if self._lacks_places():
            steps.append(
                _run(f"create the account {spec.account}", "sh", "-c", _ACCOUNT, "sh", spec.account, spec.home)
            )
            places = (spec.account, spec.etc, spec.home, spec.logs, spec.out)
            text = f"create {spec.etc}, {spec.home}, {spec.logs} and {spec.out}"
            steps.append(_run(text, "sh", "-c", _PLACES, "sh", *places))
        if (promise := spec.declared.privacy) and self.is_launcher:
            ledger = promise.budget.ledger
            steps.append(_run(f"create {ledger} if it is missing", "sh", "-c", _LEDGER, "sh", spec.account, ledger))
        steps += gpu_assignment.steps(spec, spec.gpus, self.facts) if self.assigns else []
        steps += [put(file, spec) for file in self.files]
        if any(path.startswith(UNITS) for path in changed_paths):
            steps.append(_run("reload systemd", "systemctl", "daemon-reload"))
        if not restarts and self.is_running and spec.firewall.thing in self.different:
            steps.append(firewall.load(spec.firewall))
        if not self.is_over:
            steps += self._start(restarts)
        if f"unit:{spec.unit}" in self.different:
            steps.append(_run(f"start {spec.unit} at boot, too", "systemctl", "enable", spec.unit))
        steps += self.others
        steps.append(self._note("ready"))
        texts = {file.path: file.content for file in self.files if isinstance(file.content, str) and not file.secret}
        return Plan(tuple(steps), texts=texts)

    def _lacks_places(self) -> bool:
        spec = self.spec
        folders = (spec.etc, spec.home, spec.logs)
        places = {f"user:{spec.account}", *(f"directory:{folder}" for folder in folders)}
        return bool(self.different & places)

    def _needs_restart(self, changed_paths: Sequence[str]) -> bool:
        """Return whether the unit must restart. A restart of the sshd ends processes, so only its own files count."""
        if any(thing.startswith(f"{loaded.SORT}:") for thing in self.different):
            return True
        if self.is_launcher:
            return self.assigns or bool(changed_paths)
        sshd_files = {f"{self.spec.etc}/{name}" for name in SSHD_FILES if name != "authorized_keys"}
        return any(path in sshd_files or path.startswith(UNITS) for path in changed_paths)

    def _start(self, restarts: bool) -> Iterator[Step]:
        spec = self.spec
        is_stopped = self.state not in ("running", "open")
        if not (is_stopped or restarts):
            return
        python = (
            "runuser",
            "-u",
            spec.account,
            "--",
            "env",
            f"PYTHONPATH={spec.archive}",
            "PYTHONSAFEPATH=1",
            spec.python,
        )
        check = (*python, "-m", "workloads.training.hosts", f"{spec.etc}/run.json", "check")
        yield _run(f"check its imports in {spec.environment}, and its data", *check)
        if is_stopped and self.facts.run(spec.name) is not None:
            state = f"{spec.home}/state.json"
            yield Remove(f"remove its last outcome ({self.state})", state)
        verb = "restart" if restarts and not self.is_launcher else "start"
        # systemd refuses to start a unit that failed too often, until reset-failed
        yield _run(
            f"{verb} {spec.unit}",
            "sh",
            "-c",
            f'systemctl reset-failed "$1" || true; systemctl {verb} "$1"',
            "sh",
            spec.unit,
        )
        if self.is_launcher:
            place = (spec.account, spec.archive, spec.path, spec.home, spec.python, f"{spec.etc}/run.json")
            yield Command(
                f"wait until all {len(spec.hosts) * spec.declared.processes} processes have logged their first step",
                ("sh", "-c", _AWAIT, "sh", spec.unit, *place, str(FIRST_STEP_SECONDS)),
                timeout_seconds=FIRST_STEP_SECONDS + 60,
            )

    def _note(self, phase: str) -> Put:
        spec = self.spec
        text = ownership.owner_text(spec.id, spec.fleet, phase)
        return Put(f"note in the owner file: {phase}", ownership.owner_file(spec.owner), text, 0o600)


def removal(spec: TrainingSpec, facts: Facts, repository: Repository) -> Plan:
    """Return the plan that stops the run and removes its account, key and files; its output on the tier stays."""
    if refusals := ownership.refuse_foreign(spec.id, spec.fleet, spec.owner, REFUSAL_TEXTS.noun, facts):
        return Plan(refusals=refusals)
    if facts.owner(spec.owner) is None:
        return Plan()
    steps: list[Step] = []
    if facts.unit(spec.unit) is not None:
        text = f"stop {spec.unit}" if spec.host != spec.launcher_host.name else f"stop {spec.name}, which saves first"
        steps.append(_run(text, "systemctl", "disable", "--now", spec.unit, seconds=spec.declared.grace_seconds + 120))
    steps.append(Remove(f"remove {spec.unit}", f"{UNITS}/{spec.unit}"))
    steps.append(_run("reload systemd", "systemctl", "daemon-reload"))
    places = (spec.account, spec.etc, spec.opt, spec.home, spec.logs, spec.out)
    steps.append(_run(f"remove the account {spec.account}, its key and its files", "sh", "-c", _REMOVE, "sh", *places))
    steps += gpu_assignment.removal(spec, spec.gpus)
    steps.append(Remove("remove the owner file", ownership.owner_file(spec.owner)))
    return Plan(tuple(steps), notes=(f"{spec.out} stays: metrics and checkpoints",))


def _run(text: str, *argv: str, seconds: float = 600) -> Command:
    return Command(text, argv, timeout_seconds=seconds)
