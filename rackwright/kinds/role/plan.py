"""The plan of a role: its steps, refusals and removal."""

import base64
import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rackwright.core.contract import Command, Difference, Plan, PlayRole, Put, Remove, Step
from rackwright.core.repository import Repository
from rackwright.errors import Diagnostic
from rackwright.facts.facts import Facts
from rackwright.facts.view import UnknownFact
from rackwright.kinds.role import restarts, shared_packages
from rackwright.kinds.role.promise import Promises
from rackwright.kinds.role.spec import RoleSpec, owner_text
from rackwright.kinds.role.versions import refuse_skipped_minors
from rackwright.kinds.shared import loaded, ownership
from rackwright.kinds.shared.guard import guard_change, reload_commands
from rackwright.kinds.shared.identity import refuse_wrong_machine
from rackwright.schema.secret import placeholder
from rackwright.schema.units import format_size

REMOVAL_NOTE = "other packages, accounts and services stay as they are: others may use them by now"


def plan(
    spec: RoleSpec, promises: Promises, differences: Sequence[Difference], facts: Facts, repository: Repository
) -> Plan:
    """Return the steps that make *promises* hold.

    Three sorts of differences need manual work: unknown values, claims with ``by_hand``, and claims that need a restart
    which the fleet does not allow. A thing may have properties of two claims, of which one needs manual work.
    """
    if refusals := (*refuse_wrong_machine(spec.host, differences), *refuse_foreign(spec, facts)):
        return Plan(refusals=refusals)
    if refusals := refuse_skipped_minors(spec.id, promises.entries, differences):
        return Plan(refusals=refusals)
    manual = {entry.thing for entry in promises.entries if entry.by_hand}
    needs_restart = {entry.thing for entry in promises.entries if entry.restart} - manual
    restart = any(item.thing in needs_restart and not item.is_unknown for item in differences)
    made = {
        (entry.thing, name)
        for entry in promises.entries
        if entry.thing in manual and not entry.by_hand
        for name in entry.want(repository)
    }
    manual_work = {(item.thing, item.name) for item in differences if item.thing in manual} - made
    by_hand = tuple(
        item
        for item in differences
        if item.is_unknown
        or (item.thing, item.name) in manual_work
        or (item.thing in needs_restart and not spec.reboot)
    )
    fixable = [
        item
        for item in differences
        if not item.is_unknown and (item.thing, item.name) not in manual_work and item.thing not in needs_restart
    ]
    plays = bool(fixable) or (restart and not restarts.is_prepared(spec, facts))
    if plays and promises.unknown_secrets:
        return Plan(refusals=(_refuse_unknown_secrets(spec, promises),))
    disturbing = {(entry.thing, name) for entry in promises.entries for name in entry.disturbs}
    if disturbing & {(item.thing, item.name) for item in fixable} and (refusals := tuple(refuse_busy(spec.id, facts))):
        return Plan(refusals=refusals)
    boot_id = restarts.boot_id(facts) if restart else None
    steps = [*_steps(spec, promises, facts, boot_id, loaded.services_to_restart(fixable))] if plays else []
    if restart and spec.reboot:
        steps.append(restarts.step(spec.host))
    changed_paths = {item.thing.partition(":")[2] for item in fixable if item.thing.startswith("file:")}
    secret_files = changed_paths & promises.secret_files
    texts = {
        file.file: file.content
        for file in promises.files
        if file.file in changed_paths - secret_files and isinstance(file.content, str)
    }
    notes = tuple(f"{path}: the content is secret, and not shown" for path in sorted(secret_files))
    return Plan(steps=tuple(steps), by_hand=by_hand, notes=notes, texts=texts)


def _refuse_unknown_secrets(spec: RoleSpec, promises: Promises) -> Diagnostic:
    problem = f"the value of {', '.join(map(placeholder, promises.unknown_secrets))} is not known here"
    help = "Run the command with the passphrase of the stack, whose configuration has the values"
    return Diagnostic(spec.id, problem, "values of all variables of the role", help, id="secret-unknown")


def refuse_busy(id: str, facts: Facts) -> Iterator[Diagnostic]:
    """Yield a refusal of the change *id* for each process on a GPU or another accelerator.

    A driver that does not answer counts as a GPU without processes.
    """
    rest = (
        "no process on a GPU during the change",
        "Wait until the process ends, or end it; then run this again",
        "the change would interrupt the process",
    )
    with contextlib.suppress(UnknownFact):
        for gpu in facts.gpus:
            for process in gpu.processes:
                memory = "memory" if process.memory_bytes is None else format_size(process.memory_bytes)
                name = process.name or "unknown name"
                yield Diagnostic(
                    id, f"process {process.pid} ({name}) has {memory} of GPU {gpu.index}", *rest, id="accelerator-busy"
                )
    with contextlib.suppress(UnknownFact):
        for user in facts.accelerator_users:
            yield Diagnostic(
                id, f"process {user.pid} ({user.name}) has {user.device} open", *rest, id="accelerator-busy"
            )


def refuse_foreign(spec: RoleSpec, facts: Facts) -> tuple[Diagnostic, ...]:
    """Return a refusal if another fleet plays the same role on the host, or if that is unknown."""
    return ownership.refuse_foreign(spec.id, spec.fleet.name, spec.owner, "role", facts)


def _steps(
    spec: RoleSpec, promises: Promises, facts: Facts, boot_id: str | None, outdated: dict[str, str]
) -> Iterator[Step]:
    owner = facts.owner(spec.owner) or {}
    packages = shared_packages.notes(promises.entries, owner, facts)
    paths = [*(file.file for file in promises.files), *promises.leaving_files]
    old_files = owner.get("wrote", ())
    if owner.get("phase") != "ready" or set(paths) - set(old_files):
        if unmanaged := tuple(path for path in paths if path not in old_files):
            yield ownership.back_up(spec.owner, unmanaged)
        # with the new files, whose backups exist: a removal after a failure restores them too
        text = owner_text(spec, "creating", [*old_files, *unmanaged], packages=packages)
        yield Put("note in the owner file: creating", spec.owner_file, text, 0o600)
    also = f", which restarts {', '.join(sorted(outdated))}" if outdated else ""
    play = PlayRole(f"play role {spec.role}{also}", spec.role, variables(spec, promises, outdated))
    source = promises.source
    # directories first: files that the role removes there come back as well
    restored_paths = [*promises.exclusive_directories, *paths]
    if source.guarded:
        yield from guard_change(spec.owner, restored_paths, reload_commands(source.reload), [play], patient=True)
    else:
        yield play
    text = owner_text(spec, "ready", paths, boot_id, packages)
    if json.loads(text) != owner:
        yield Put("note in the owner file: ready", spec.owner_file, text, 0o600)


def variables(spec: RoleSpec, promises: Promises, outdated: Mapping[str, str]) -> dict[str, Any]:
    """Return the variables for the play: those of the role, and every file that it writes, rendered.

    Args:
        outdated: The services that run with earlier files, each with the state for Ansible that mends it.
    """
    files = [
        {
            "path": file.file,
            "content": base64.b64encode(_bytes(file.content)).decode(),  # Ansible would render braces in plain text
            "binary": isinstance(file.content, bytes),
            "mode": file.mode,
            "owner": file.owner.partition(":")[0],
            "group": file.owner.partition(":")[2],
            "secret": file.file in promises.secret_files,  # for no_log
        }
        for file in promises.files
    ]
    return {**promises.variables, f"{spec.role}_files": files, f"{spec.role}_outdated": dict(outdated)}


def removal(spec: RoleSpec, facts: Facts, leaves_all: bool) -> Plan:
    """Return the steps that restore the earlier files, and remove those that only the role wrote.

    Args:
        leaves_all: Whether only the owner file is removed, because logins depend on the role's files.
    """
    if refusals := refuse_foreign(spec, facts):
        return Plan(refusals=refusals)
    owner = facts.owner(spec.owner)
    if owner is None:
        return Plan()
    files = tuple(owner.get("wrote", ()))
    if leaves_all:
        step = Remove(f"remove {spec.owner_file}", spec.owner_file)
        return Plan(steps=(step,), notes=(f"{spec.id}: everything stays on the host as it is, without an owner",))
    noted = {name: owner[name] for name in (shared_packages.NEEDED, shared_packages.BROUGHT) if name in owner}
    steps: list[Step] = [
        Put(
            "note in the owner file: removing",
            spec.owner_file,
            owner_text(spec, "removing", files, packages=noted),
            0o600,
        )
    ]
    if units := ownership.written_units(files):
        steps.append(ownership.stop_units(spec.owner, units))
    if files:
        steps.append(ownership.restore(spec.owner, files))
        steps.append(Command("reload systemd", ("systemctl", "daemon-reload")))
    if brought := owner.get(shared_packages.BROUGHT):
        steps.append(shared_packages.remove(spec.owner, brought))
    steps.append(Remove(f"remove {spec.owner_file}", spec.owner_file))
    return Plan(steps=tuple(steps), notes=(f"{spec.id}: {REMOVAL_NOTE}",))


def _bytes(content: str | bytes) -> bytes:
    return content.encode() if isinstance(content, str) else content
