"""The folders of the rounds of a coordinator, as far as they are messages; readable without NumPy."""

import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from workloads.errors import Diagnostic, UserError
from workloads.federation import coordinator_state
from workloads.federation.config import Terms
from workloads.federation.messages import RoundReply, RoundRequest, Statement, read_message
from workloads.federation.shared_folders import SharedPath

REQUEST, REPLY, STATEMENT, REPLIES = "request.json", "reply.json", "statement.json", "replies"
SIGNATURE = f"{REPLY}.sig"


@dataclass(frozen=True, slots=True)
class RoundsStatus:
    """The state of a federation by files."""

    terms: Terms
    round: int
    """Number of the newest round."""
    done: bool
    """Whether this was the last round, and is closed."""
    replies: dict[str, RoundReply]
    """Answers to the newest round, by site; one in a folder that its site has closed to others is none."""
    statements: dict[int, Statement]
    """Statements about the closed rounds."""


def folder(directory: Path, round: int) -> SharedPath:
    """Return the folder of *round*."""
    return SharedPath(directory) / f"round-{round:04d}"


def newest(directory: Path, rounds: int) -> int:
    """Return the number of the newest of at most *rounds* rounds that have a request; 0 without one."""
    names = [path.name for path in directory.iterdir()] if directory.is_dir() else []
    numbers = [int(name.removeprefix("round-")) for name in names if re.fullmatch(r"round-[0-9]{4}", name)]
    return max((n for n in numbers if n <= rounds and (folder(directory, n) / REQUEST).exists()), default=0)


def read_status(directory: Path, own: Path | None = None) -> RoundsStatus:
    """Return the state of the federation whose coordinator has *directory*.

    Args:
        own: Directory of the coordinator's state; without it, the folders of the rounds count as they are.

    Raises:
        UserError: There is no round or state, or a message is damaged.
    """
    if own is not None:
        return _known_status(directory, own)
    first = folder(directory, 1) / REQUEST
    if not first.exists():
        problem, expected = "the directory has no round", "the directory of `python -m workloads.federation advance`"
        raise UserError(Diagnostic(str(directory), problem, expected, "Correct the path"))
    terms = read_message(first, RoundRequest).terms
    last = newest(directory, terms.rounds)
    requests = [read_message(folder(directory, number) / REQUEST, RoundRequest) for number in range(1, last + 1)]
    place = folder(directory, last)
    statements = [request.statement for request in requests if request.statement]
    done = (place / STATEMENT).exists()
    if done:
        statements.append(read_message(place / STATEMENT, Statement))
    return RoundsStatus(terms, last, done, _replies(place, terms), {each.round: each for each in statements})


def _known_status(directory: Path, own: Path) -> RoundsStatus:
    state = coordinator_state.read(own)
    if state is None:
        problem, expected = "the directory has no state", "that of `python -m workloads.federation advance --state`"
        raise UserError(Diagnostic(str(own), problem, expected, "Correct the path"))
    terms, round = state.request.terms, state.request.round
    replies = _replies(folder(directory, round), terms)
    return RoundsStatus(terms, round, bool(state.conclusion), replies, {each.round: each for each in state.statements})


def _replies(place: SharedPath, terms: Terms) -> dict[str, RoundReply]:
    """Return the answers; a site may have closed its folder to others."""
    found: dict[str, RoundReply] = {}
    for site in terms.members:
        path = place / REPLIES / site / REPLY
        with suppress(OSError):
            if path.exists():
                found[site] = read_message(path, RoundReply)
    return found
