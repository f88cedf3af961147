"""What makes a role's promises hold, what forbids it, and what takes the role away again."""

import base64
import contextlib
import json
from collections.abc import Iterator, Sequence
from typing import Any

from rackwright.core.contract import Command, Difference, Plan, PlayRole, Put, Refusal, Remove, Step
from rackwright.facts.facts import Facts
from rackwright.facts.view import UnknownFact
from rackwright.kinds.role import restarts
from rackwright.kinds.role.promise import Promises
from rackwright.kinds.role.spec import RoleSpec, owner_text
from rackwright.kinds.shared import ownership
from rackwright.kinds.shared.guard import guard_change, reload_commands
from rackwright.kinds.shared.identity import refuse_wrong_machine
from rackwright.schema.secret import stand_in
from rackwright.schema.units import format_size

REMOVAL_NOTE = "packages, accounts and what services are doing stay as they are: others may use them by now"


def plan(spec: RoleSpec, promises: Promises, differences: Sequence[Difference], facts: Facts) -> Plan:
    """Return the steps from *facts* to *promises*.

    What cannot be known is left to a person, as what no role mends, and as what takes a restart that is not allowed.
    """
    if refusals := (*refuse_wrong_machine(spec.host, differences), *refuse_foreign(spec, facts)):
        return Plan(refusals=refusals)
    unmendable = {entry.thing for entry in promises.entries if entry.by_hand}
    late = {entry.thing for entry in promises.entries if entry.restart} - unmendable
    restart = any(item.thing in late and not item.is_unknown for item in differences)
    left = unmendable if spec.reboot else unmendable | late
    by_hand = tuple(item for item in differences if item.is_unknown or item.thing in left)
    mended = [item for item in differences if not item.is_unknown and item.thing not in unmendable | late]
    plays = bool(mended) or (restart and not restarts.prepared(spec, facts))
    if plays and promises.sealed:
        return Plan(refusals=(_sealed(spec, promises),))
    disturbing = {(entry.thing, name) for entry in promises.entries for name in entry.disturbs}
    if disturbing & {(item.thing, item.name) for item in mended} and (refusals := tuple(busy(spec.id, facts))):
        return Plan(refusals=refusals)
    steps = [*_steps(spec, promises, facts, restarts.boot_id(facts) if restart else None)] if plays else []
    if restart and spec.reboot:
        steps.append(restarts.step(spec.host))
    changed = {item.thing.partition(":")[2] for item in mended if item.thing.startswith("file:")}
    hidden = changed & promises.secret_files
    texts = {
        file.file: file.content
        for file in promises.files
        if file.file in changed - hidden and isinstance(file.content, str)
    }
    notes = tuple(f"{path}: the content is secret, and not shown" for path in sorted(hidden))
    return Plan(steps=tuple(steps), by_hand=by_hand, notes=notes, texts=texts)


def _sealed(spec: RoleSpec, promises: Promises) -> Refusal:
    got = f"got no value of {', '.join(map(placeholder, promises.sealed))}"
    fix = "Run it with the passphrase of the stack, in whose configuration the values stand"
    return Refusal(spec.id, got, "a role is played with all its variables", fix)


def busy(id: str, facts: Facts) -> Iterator[Refusal]:
    """Yield a refusal of what *id* would do for each process on a GPU or another accelerator.

    Where no driver answers, nobody computes.
    """
    want, fix = (
        "what is to be done takes GPUs away from whoever computes on them",
        "Let it end, or end it; then run this again",
    )
    with contextlib.suppress(UnknownFact):
        for gpu in facts.gpus:
            for process in gpu.processes:
                memory = "memory" if process.memory_bytes is None else format_size(process.memory_bytes)
                name = process.name or "of an unknown name"
                got = f"got process {process.pid} ({name}) with {memory} of GPU {gpu.index}"
                yield Refusal(id, got, want, fix)
    with contextlib.suppress(UnknownFact):
        for user in facts.accelerator_users:
            yield Refusal(id, f"got process {user.pid} ({user.name}), which has {user.device} open", want, fix)


def refuse_foreign(spec: RoleSpec, facts: Facts) -> tuple[Refusal, ...]:
    """Refuse where another fleet plays the same role on the host, or where that cannot be known."""
    return ownership.refuse_foreign(spec.id, spec.fleet.name, spec.owner, "role", facts)


def _steps(spec: RoleSpec, promises: Promises, facts: Facts, boot_id: str | None) -> Iterator[Step]:
    owner = facts.owner(spec.owner) or {}
    paths = [file.file for file in promises.files]
    before = owner.get("wrote", ())
    if owner.get("phase") != "ready" or set(paths) - set(before):
        yield Put("note in the owner file: creating", spec.owner_file, owner_text(spec, "creating", before), 0o600)
        strangers = tuple(path for path in paths if path not in before)
        if strangers:
            yield ownership.back_up(spec.owner, strangers)
    play = PlayRole(f"play role {spec.role}", spec.role, variables(spec, promises))
    source = promises.source
    # directories first: what is set aside there comes back as well
    back = [*promises.closed, *paths]
    if source.guarded:
        yield from guard_change(spec.owner, back, reload_commands(source.reload), [play], patient=True)
    else:
        yield play
    done = owner_text(spec, "ready", paths, boot_id)
    if json.loads(done) != owner:
        yield Put("note in the owner file: ready", spec.owner_file, done, 0o600)


def variables(spec: RoleSpec, promises: Promises) -> dict[str, Any]:
    """Return what the role is played with: its variables, and every file it writes, rendered."""
    files = [
        {
            "path": file.file,
            "content": base64.b64encode(_bytes(file.content)).decode(),  # it may hold braces of its own
            "binary": isinstance(file.content, bytes),
            "mode": file.mode,
            "owner": file.owner.partition(":")[0],
            "group": file.owner.partition(":")[2],
            "secret": file.file in promises.secret_files,  # for no_log
        }
        for file in promises.files
    ]
    return {**promises.variables, f"{spec.role}_files": files}


def removal(spec: RoleSpec, facts: Facts, leaves_all: bool) -> Plan:
    """Return the steps that put back what stood there before, and remove what only the role wrote.

    Args:
        leaves_all: Nothing but the note that it is ours goes: what lets people in is not taken from under them.
    """
    if refusals := refuse_foreign(spec, facts):
        return Plan(refusals=refusals)
    owner = facts.owner(spec.owner)
    if owner is None:
        return Plan()
    wrote = tuple(owner.get("wrote", ()))
    if leaves_all:
        step = Remove(f"remove {spec.owner_file}", spec.owner_file)
        return Plan(steps=(step,), notes=(f"{spec.id}: everything stays on the host as it is, and is nobody's",))
    steps: list[Step] = [
        Put("note in the owner file: removing", spec.owner_file, owner_text(spec, "removing", wrote), 0o600)
    ]
    if wrote:
        steps.append(ownership.restore(spec.owner, wrote))
        steps.append(Command("reload systemd", ("systemctl", "daemon-reload")))
    steps.append(Remove(f"remove {spec.owner_file}", spec.owner_file))
    return Plan(steps=tuple(steps), notes=(f"{spec.id}: {REMOVAL_NOTE}",))


def _bytes(content: str | bytes) -> bytes:
    return content.encode() if isinstance(content, str) else content
