"""The coordinator: it asks all sites for their updates in rounds, and combines those that count."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from workloads.errors import Diagnostic, UserError
from workloads.federation import weights as arrays
from workloads.federation.aggregation import TooFewUpdates, combine
from workloads.federation.config import Terms
from workloads.federation.messages import RoundReply, RoundRequest, Statement
from workloads.federation.weights import Weights

REASON_LONGEST = 200


class Member(Protocol):
    """A site, as the coordinator reaches it."""

    def train(self, request: RoundRequest, model: Weights) -> tuple[RoundReply, Weights]: ...
    def conclude(self, statement: Statement) -> None: ...


@dataclass(frozen=True, slots=True)
class RoundResult:
    """A round that has ended."""

    statement: Statement
    replies: Mapping[str, RoundReply]
    model: dict[str, np.ndarray]

    @property
    def accuracy(self) -> dict[str, float]:
        """Accuracy of the model before the round on the held-out rows of each site."""
        return {site: reply.accuracy for site, reply in self.replies.items()}


def run(terms: Terms, members: Mapping[str, Member], model: Weights) -> Iterator[RoundResult]:
    """Yield each round of the training that begins with *model*; after the last one, all sites get its statement.

    A site that refuses, fails or does not answer is excluded from the round by name, and asked again in the next one.

    Raises:
        UserError: A round has too few good updates, so that the model of the round before stays; or after the last
            round, a site contradicts its statement.
    """
    statement: Statement | None = None
    for round in range(1, terms.rounds + 1):
        result = close_round(make_request(terms, round, statement, model), members, model)
        statement, model = result.statement, result.model
        yield result
    assert statement is not None  # a federation has at least one round
    problems: list[Diagnostic] = []
    for member in members.values():
        try:
            member.conclude(statement)
        except UserError as error:
            problems += error.diagnostics
    if problems:
        raise UserError(*problems)


def make_request(terms: Terms, round: int, statement: Statement | None, model: Weights) -> RoundRequest:
    """Return the request of *round*, which is the same for all sites."""
    return RoundRequest(round=round, terms=terms, model=arrays.digest(model), statement=statement)


def close_round(request: RoundRequest, members: Mapping[str, Member], model: Weights) -> RoundResult:
    """Return the result of a round: the combined updates of the *members* that answer *request*.

    Raises:
        UserError: The round has too few good updates.
    """
    terms = request.terms
    replies, updates, excluded = _ask(request, members, model)
    try:
        combined = combine(updates, model, terms)
    except TooFewUpdates as error:
        good = len(updates) - len(error.excluded)
        raise _too_few(terms, request.round, good, {**excluded, **error.excluded}) from None
    result = arrays.add(model, combined.update)
    statement = Statement(
        round=request.round,
        updates={site: replies[site].update for site in updates},
        excluded={**excluded, **combined.excluded},
        model=arrays.digest(result),
    )
    return RoundResult(statement, replies, result)


def _ask(
    request: RoundRequest, members: Mapping[str, Member], model: Weights
) -> tuple[dict[str, RoundReply], dict[str, Weights], dict[str, str]]:
    """Return the replies, the updates, and the reason for each site without a good answer."""
    replies: dict[str, RoundReply] = {}
    updates: dict[str, Weights] = {}
    excluded: dict[str, str] = {}
    for site in request.terms.members:
        if site not in members:
            excluded[site] = "it is not connected"
            continue
        try:
            reply, update = members[site].train(request, model)
        except (UserError, OSError) as error:
            excluded[site] = f"no update: {_problem(error)}"[:REASON_LONGEST]
            continue
        if (reply.site, reply.round, reply.request) != (site, request.round, request.digest):
            excluded[site] = "its answer is to another request"
        elif arrays.digest(update) != reply.update:
            excluded[site] = "its update has another digest than its answer"
        else:
            replies[site], updates[site] = reply, update
    return replies, updates, excluded


def _problem(error: UserError | OSError) -> str:
    """Return the problem of *error* without its place: the statement goes to all sites, and a place may be a path."""
    if isinstance(error, UserError):
        return "; ".join(each.problem for each in error.diagnostics)
    return error.strerror or type(error).__name__


def _too_few(terms: Terms, round: int, good: int, excluded: Mapping[str, str]) -> UserError:
    expected = f"{terms.sites_min} or more for {terms.rule} with {terms.tolerated} tolerated"
    note = "; ".join(f"{site}: {reason}" for site, reason in excluded.items())
    problem = f"round {round} has {good} good updates"
    return UserError(Diagnostic(terms.federation, problem, expected, "Correct the sites, and start again", note))
