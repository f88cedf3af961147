"""The check that a store keeps what it acknowledges, before the only other copy is deleted."""

from collections.abc import Callable, Iterator, Sequence

from rackwright.errors import ChangeRefused, Diagnostic, EndpointUnreachable, Unreachable, command
from rackwright.facts.facts import Facts
from rackwright.facts.view import UnknownFact


def require_durable(store: str, hosts: Sequence[str], facts: Callable[[str], Facts], stack: str) -> None:
    """Return if each of *hosts*, which run the store, writes to its drives before it acknowledges.

    Raises:
        ChangeRefused: a host keeps acknowledged writes in memory for a while.
        EndpointUnreachable: a host does not show how it writes.
    """
    if buffering := [*_buffering(store, hosts, facts, stack)]:
        raise ChangeRefused(*buffering)


def _buffering(store: str, hosts: Sequence[str], facts: Callable[[str], Facts], stack: str) -> Iterator[Diagnostic]:
    for host in hosts:
        where = f"object_stores.{store}"
        try:
            part = facts(host).object_store
            buffered = ("the whole store",) if part is None else part.buffered
        except (UnknownFact, Unreachable) as reason:
            problem = f"{host} does not show whether its writes are on the drive: {reason}"
            help = "Make the host reachable, or pass --keep, which deletes nothing"
            raise EndpointUnreachable(Diagnostic(where, problem, help=help)) from None
        if buffered:
            problem = f"{host} acknowledges objects before they are on its drives: {', '.join(buffered)}"
            help = f"Run {command('rackwright up {}', stack)}, or pass --keep, which deletes nothing"
            yield Diagnostic(where, problem, "writes that survive a power cut", help, id="store-not-durable")
