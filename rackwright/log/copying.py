"""The copy of the log's head to a second place, after a comparison with the heads there."""

from pathlib import Path

from rackwright.errors import Diagnostic, UserError
from rackwright.log.chain import Break, resume, split
from rackwright.log.entry import parse_line
from rackwright.log.heads import Head, heads_of
from rackwright.log.places import Place
from rackwright.log.writer import missing_log


class LogDiffers(UserError):
    """The log is not that of the copied heads, or is not whole."""

    exit_status = 1


def copy_head(path: Path, place: Place) -> Head:
    """Append the head of the log in *path* to *place*, unless it is there, and return it.

    The last head there has to be one of the log. `verify` compares all of them.

    Raises:
        ChangeRefused: There is no log.
        LogDiffers: The log is not whole at its end, or has lost entries since the last copy.
        HostUnreachable: The place does not answer.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise missing_log(path) from None
    texts, _ = split(content)
    state = resume(content)
    last = parse_line(texts[-1]) if texts else None
    if isinstance(state, Break) or last is None:
        raise _error(path, f"the log is not whole: {state}" if isinstance(state, Break) else "the log has no entry")
    keys = {name: each.key for name, each in state.keys.items()}
    copies = heads_of(place.read(), state.log)
    for head in copies:
        if not head.is_signed_by(keys):
            problem = f"the head of entry {head.sequence} at {place.name} is not signed by a key of this log"
            raise _error(path, f"{problem}; it was forged there, or the log has lost the entry about its key")
    for head in sorted(copies, key=lambda head: head.sequence)[-1:]:
        line = parse_line(texts[head.sequence]) if head.sequence < len(texts) else None
        if line is None or line.hash != head.hash:
            problem = f"the log is not that of the heads at {place.name}: entry {head.sequence} there is another one"
            raise _error(path, problem)
    head = Head.of(last)
    if head not in copies:
        place.append(head.encode())
    return head


def _error(path: Path, problem: str) -> LogDiffers:
    return LogDiffers(Diagnostic(str(path), problem, help="Run `rackwright log verify`", id="log-broken"))
