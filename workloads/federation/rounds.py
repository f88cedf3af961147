"""The directory of a coordinator: one folder for each round, with its request and the answers of the sites."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from workloads.errors import UserError
from workloads.federation import coordinator, exchange
from workloads.federation.config import Terms
from workloads.federation.coordinator import RoundResult
from workloads.federation.messages import RoundReply, RoundRequest, Statement
from workloads.federation.round_folders import REPLIES, REPLY, STATEMENT, folder, newest
from workloads.federation.shared_folders import SharedPath
from workloads.federation.signatures import check_signers
from workloads.federation.site import Site
from workloads.federation.weights import Weights


@dataclass(frozen=True, slots=True)
class FileMember:
    """A site whose answer is in a directory, with its signature checked."""

    reply: RoundReply
    directory: SharedPath

    def train(self, request: RoundRequest, model: Weights) -> tuple[RoundReply, Weights]:
        """Return the answer, and the update beside it.

        Raises:
            UserError: The file of the update is none.
        """
        return self.reply, exchange.read_update(self.directory, model)

    def conclude(self, statement: Statement) -> None:
        """Do nothing: the site reads the statement from the folder of its round."""


@dataclass(frozen=True, slots=True)
class Progress:
    """The state of a federation after a call of `advance`."""

    round: int
    """Round that waits for answers; the last round if the training is done."""
    missing: tuple[str, ...]
    """Members without an answer in this round."""
    refused: Mapping[str, str] = field(default_factory=dict)
    """Reason for each of them that has files in the place of an answer."""
    result: RoundResult | None = None
    """Result of the round that this call has closed."""
    done: bool = False


def advance(directory: Path, terms: Terms, shapes: Weights, signers: Path, close: bool) -> Progress:
    """Open the first round, or close the open one if it has all answers, and open the next one.

    An answer that its site has not signed, or that answers another request, counts as missing.

    Args:
        shapes: The initial model.
        signers: The members with their public keys, in the form of allowed signers of ssh-keygen.
        close: Whether the round is closed without the missing answers.

    Raises:
        UserError: The round has too few good updates, a member has no key, or a file of the coordinator is damaged.
    """
    check_signers(signers, terms.members)
    opened = newest(directory, terms.rounds)
    if not opened:
        exchange.write_request(folder(directory, 1), coordinator.make_request(terms, 1, None, shapes), shapes)
        return Progress(1, terms.members)
    place = folder(directory, opened)
    if (place / STATEMENT).exists():
        return Progress(opened, (), done=True)
    request, model = exchange.read_request(place, shapes)
    members, refused = _members(place, request, signers)
    missing = tuple(site for site in terms.members if site not in members)
    if missing and not close:
        return Progress(request.round, missing, refused)
    result = coordinator.close_round(request, members, model)
    if request.round == terms.rounds:
        exchange.write_arrays(SharedPath(directory) / exchange.MODEL, result.model)
        exchange.write_statement(place, result.statement)
        return Progress(request.round, (), refused, result, done=True)
    following = coordinator.make_request(terms, request.round + 1, result.statement, result.model)
    exchange.write_request(folder(directory, request.round + 1), following, result.model)
    return Progress(request.round + 1, terms.members, refused, result)


def _members(place: SharedPath, request: RoundRequest, signers: Path) -> tuple[dict[str, FileMember], dict[str, str]]:
    """Return the sites that have answered *request*, and the reasons of answers that do not count."""
    members: dict[str, FileMember] = {}
    refused: dict[str, str] = {}
    for site in request.terms.members:
        path = place / REPLIES / site
        if not (path / REPLY).exists():
            continue
        try:
            members[site] = FileMember(exchange.read_reply(path, request, site, signers), path)
        except UserError as error:
            refused[site] = "; ".join(each.problem for each in error.diagnostics)
    return members, refused


def answer(site: Site, place: Path) -> str:
    """Answer the request in *place*, the folder of a round; after the last round, read its statement.

    Returns:
        A sentence about the result.

    Raises:
        UserError: The site refuses the request or the statement.
    """
    shared = SharedPath(place.absolute().parent) / place.absolute().name
    if (shared / STATEMENT).exists():
        statement = exchange.read_statement(shared)
        site.conclude(statement)
        return f"round {statement.round} was the last one; its statement is in {site.path}"
    request, model = exchange.read_request(shared, site.shapes)
    reply, update = site.train(request, model)
    exchange.write_reply(shared / REPLIES / site.name, reply, update, site.key)
    return f"round {reply.round} is answered; accuracy of the received model {reply.accuracy:.4f}"
