"""The directory of a coordinator: one folder for each round, with its request and the answers of the sites."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from workloads.errors import Diagnostic, UserError
from workloads.federation import coordinator, coordinator_state, exchange
from workloads.federation.config import Terms
from workloads.federation.coordinator import RoundResult
from workloads.federation.coordinator_state import CoordinatorState
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
    changed: tuple[str, ...] = ()
    """Files of the coordinator that others had changed or put into a folder; they are as they were."""


def advance(directory: Path, own: Path, terms: Terms, shapes: Weights, signers: Path, close: bool) -> Progress:
    """Open the first round, or close the open one if it has all answers, and open the next one.

    An answer that its site has not signed, or that answers another request, counts as missing.

    Rounds, terms and models are those of the coordinator's own state, whatever the folders of the rounds have.

    Args:
        directory: Directory with the folders of the rounds, to which others may write.
        own: Directory of the state, to which the coordinator alone may write.
        shapes: The initial model.
        signers: The members with their public keys, in the form of allowed signers of ssh-keygen.
        close: Whether the round is closed without the missing answers.

    Raises:
        UserError: The round has too few good updates, a member has no key, or the state is damaged or missing, or has
            other terms.
    """
    check_signers(signers, terms.members)
    coordinator_state.check_apart(own, directory)
    state = coordinator_state.read(own)
    if state is None:
        _check_new(directory, own, terms)
        _proceed(directory, own, CoordinatorState(request=coordinator.make_request(terms, 1, None, shapes)), shapes)
        return Progress(1, terms.members)
    request = state.request
    if request.terms != terms:
        help = "Use the terms of the first round, or another directory for another training"
        raise UserError(Diagnostic(str(own), "its training has other terms", "those of the command", help))
    model = exchange.read_model(SharedPath(own), state, shapes)
    changed = (*_publish(directory, state, model),)
    if state.conclusion:
        return Progress(request.round, (), done=True, changed=changed)
    members, refused = _members(folder(directory, request.round), request, signers)
    missing = tuple(site for site in terms.members if site not in members)
    if missing and not close:
        return Progress(request.round, missing, refused, changed=changed)
    result = coordinator.close_round(request, members, model)
    state = _following(state, result)
    _proceed(directory, own, state, result.model)
    if state.conclusion:
        return Progress(request.round, (), refused, result, done=True, changed=changed)
    return Progress(state.request.round, terms.members, refused, result, changed=changed)


def _check_new(directory: Path, own: Path, terms: Terms) -> None:
    """
    Raises:
        UserError: *directory* has rounds, of which the state in *own* knows nothing.
    """
    if newest(directory, terms.rounds):
        problem = f"{directory} has rounds, and {own} has no state of them"
        help = "Restore the directory of the state, or use a new directory for the rounds"
        raise UserError(Diagnostic("--state", problem, "the state of this training", help))


def _following(state: CoordinatorState, result: RoundResult) -> CoordinatorState:
    """Return the state after the open round of *state* has ended with *result*."""
    request, statements = state.request, (*state.statements, result.statement)
    if request.round < request.terms.rounds:
        request = coordinator.make_request(request.terms, request.round + 1, result.statement, result.model)
    return CoordinatorState(request=request, statements=statements)


def _proceed(directory: Path, own: Path, state: CoordinatorState, model: Weights) -> None:
    """Write *state*, and then its copy for the sites: a command that ends in between is completed by the next one."""
    exchange.write_state(SharedPath(own), state, model)
    _publish(directory, state, model)
    for path in own.glob("*.f32"):
        if path.stem != state.model:
            path.unlink()


def _publish(directory: Path, state: CoordinatorState, model: Weights) -> list[str]:
    """Write the messages of *state* that sites read; return the files that others had changed."""
    place = folder(directory, state.request.round)
    if state.conclusion:
        return exchange.publish_result(SharedPath(directory), place, state.conclusion, model)
    return exchange.publish_request(place, state.request, model)


def _members(place: SharedPath, request: RoundRequest, signers: Path) -> tuple[dict[str, FileMember], dict[str, str]]:
    """Return the sites that have answered *request*, and the reasons of answers that do not count."""
    members: dict[str, FileMember] = {}
    refused: dict[str, str] = {}
    for site in request.terms.members:
        path = place / REPLIES / site
        try:
            if (path / REPLY).exists():
                members[site] = FileMember(exchange.read_reply(path, request, site, signers), path)
        except OSError as error:  # the account of a site can close its folder to others
            refused[site] = f"its folder cannot be read: {error.strerror}"
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
