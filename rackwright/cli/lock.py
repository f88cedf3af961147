"""The lock command: it writes a fleet's lock, and fetches the locked files into the local repository."""

from pathlib import Path
from typing import TYPE_CHECKING

from rackwright import terminal
from rackwright.cli import activity, project
from rackwright.errors import DeclarationError, Diagnostic, quantity
from rackwright.files import write_atomic
from rackwright.fleet.lockfile import changes
from rackwright.lock import resolve, tree, vendor_keys
from rackwright.stack import Stack
from rackwright.toolchain import cache

if TYPE_CHECKING:
    from rackwright.cli.json_types import LockChanges


def run(stack: Stack, check: bool, upgrade: bool, fetch: bool, to: Path | None, as_json: bool) -> int:
    """Lock *stack* and return the exit status.

    Args:
        check: Write nothing; the status is 1 if the lock would change.
        upgrade: Take the newest version of everything for which roles name none.
        fetch: Fetch all locked files into the local repository.
        to: A directory for a copy of the local repository.
    """
    if stack.fleet.uses:
        problem = f"its fleet uses the hosts of {stack.fleet.uses}"
        help = f"Run the command for a stack whose fleet is {stack.fleet.uses}"
        raise DeclarationError(
            Diagnostic(f"stack {stack.name}", problem, "a stack whose fleet declares its hosts itself", help)
        )
    with cache.hold_lock(cache.directory() / "mirror" / "lock", project.notify), activity.show_work() as progress:
        stack = vendor_keys.add_vendor_keys(stack, upgrade, project.notify)
        apts = resolve.load_apts(stack)
        for each in apts.values():
            progress(f"reading the indexes of {each.os}")
            each.prepare(project.notify)
        resolved = resolve.resolve(stack, apts, upgrade, progress)
        if fetch and not check:
            resolved = resolve.add_key(resolved, stack)
            resolve.fetch(resolved, apts, stack, progress)
        if to is not None and not check:
            progress(f"copying the local repository to {to}")
            tree.copy(resolved.lock, stack.local_repository, to)
        changed = list(changes(stack.lock, resolved.lock))
        if changed and not check:
            write_atomic(stack.lock_file, resolved.lock.text)
    if as_json:
        changes_of_lock: LockChanges = {"lock": str(stack.lock_file), "changes": changed}
        terminal.show_json(changes_of_lock)
    else:
        for line in changed if stack.lock else ():  # all of a first lock is new
            terminal.show(line)
        packages = len({digest for each in resolved.lock.packages.values() for digest in each.values()})
        rest = ", ".join(
            quantity(number, noun)
            for number, noun in (
                (packages, "package"),
                (len(resolved.lock.images), "image"),
                (len(resolved.lock.wheels), "wheel"),
            )
        )
        terminal.show(f"{stack.lock_file}: {rest}; {_summary(len(changed), check, stack.lock is None)}")
    return 1 if check and changed else 0


def _summary(changed: int, check: bool, is_first: bool) -> str:
    if is_first and not check:
        return "written"
    if not changed:
        return "nothing changes" if check else "nothing changed"
    return f"{changed} would change: `rackwright lock` writes it" if check else f"{changed} changed"
