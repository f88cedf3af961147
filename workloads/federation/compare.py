"""The comparison of the transcripts of all sites: whether the coordinator was the same to each of them."""

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from operator import itemgetter

from workloads.federation.messages import RoundRequest, Statement
from workloads.federation.transcript import Transcript


@dataclass(frozen=True, slots=True)
class Contradiction:
    """A place at which transcripts contradict each other, or themselves."""

    round: int
    sites: tuple[str, ...]
    problem: str


@dataclass(frozen=True, slots=True)
class Gap:
    """A part of a round that transcripts lack, so that it was not compared."""

    round: int
    sites: tuple[str, ...]
    """Sites whose transcripts lack it; empty if all of them do."""
    problem: str


def contradictions(transcripts: Sequence[Transcript]) -> list[Contradiction]:
    """Return all contradictions, by round; the repeats of a round count as much as its last entry.

    The statements are records of the sites: a contradiction shows that the coordinator was not the same to all sites,
    or that one of these sites has recorded another thing.
    """
    found = {
        *_different_values(transcripts),
        *(each for transcript in transcripts for each in _own_contradictions(transcript)),
        *_unlike_statements(transcripts),
    }
    return sorted(found, key=lambda each: (each.round, each.sites, each.problem))


def gaps(transcripts: Sequence[Transcript]) -> list[Gap]:
    """Return the rounds of the terms without an entry, and the sites without the statement about the last round."""
    last = max((entry.request.terms.rounds for each in transcripts for entry in each.entries), default=1)
    present = {entry.request.round for each in transcripts for entry in each.entries}
    found = [Gap(n, (), "no transcript has an entry") for n in range(1, last + 1) if n not in present]
    ended = {each.site for each in transcripts if each.conclusion and each.conclusion.round == last}
    if without := tuple(sorted({each.site for each in transcripts} - ended)):
        found.append(Gap(last, without, "no statement about the last round"))
    return found


def missing_members(transcripts: Sequence[Transcript]) -> list[str]:
    """Return the members of the federation without a transcript, by name."""
    members = {member for each in transcripts for entry in each.entries for member in entry.request.terms.members}
    return sorted(members - {each.site for each in transcripts})


def rounds(transcripts: Sequence[Transcript]) -> int:
    """Return the number of rounds in which at least one of the sites took part."""
    return len({entry.request.round for each in transcripts for entry in each.entries})


def learnt(transcripts: Sequence[Transcript]) -> list[str]:
    """Return a sentence for each party about what it could learn from the messages of these rounds."""
    terms = {entry.request.terms.federation: entry.request.terms for each in transcripts for entry in each.entries}
    return [
        sentence
        for name, each in terms.items()
        for sentence in (
            f"The coordinator of {name} saw the update of each site in each round, of norm {each.clip_norm:g} at most.",
            f"Each site of {name} saw the model of each round, and the digests of the other sites' updates.",
        )
    ]


def statements(transcript: Transcript) -> list[Statement]:
    """Return all statements that a site received."""
    received = [entry.request.statement for entry in transcript.entries]
    return [each for each in (*received, transcript.conclusion) if each]


def _different_values(transcripts: Sequence[Transcript]) -> Iterator[Contradiction]:
    requests: dict[int, list[tuple[str, RoundRequest]]] = {}
    received: dict[int, list[tuple[str, Statement]]] = {}
    for each in transcripts:
        for entry in each.entries:
            requests.setdefault(entry.request.round, []).append((each.site, entry.request))
        for statement in statements(each):
            received.setdefault(statement.round, []).append((each.site, statement))
    for round, here in sorted(requests.items(), key=itemgetter(0)):
        yield from _different(round, "members, code, recipe or rules", [(s, _terms(r)) for s, r in here])
        yield from _different(round, "the model to start from", [(site, r.model) for site, r in here])
    for round, about in sorted(received.items(), key=itemgetter(0)):
        yield from _different(round, "the received updates", [(s, _format_values(e.updates)) for s, e in about])
        yield from _different(round, "the excluded sites", [(s, _format_values(e.excluded)) for s, e in about])
        yield from _different(round, "the model after the round", [(site, e.model) for site, e in about])


def _different(round: int, what: str, values: Sequence[tuple[str, str]]) -> Iterator[Contradiction]:
    """Yield contradictions if *values*, each with its site, are not all the same.

    The first one has the sites with several values, the other one those with the rarer values.
    """
    sites: dict[str, set[str]] = {}
    values_of: dict[str, set[str]] = {}
    for site, value in values:
        sites.setdefault(value, set()).add(site)
        values_of.setdefault(site, set()).add(value)
    if len(sites) < 2:
        return
    most = max(sites.values(), key=len)
    if both := {site for site, own in values_of.items() if len(own) > 1}:
        yield Contradiction(round, tuple(sorted(both)), f"{what} differ between the messages to one site")
    if others := values_of.keys() - most:
        yield Contradiction(round, tuple(sorted(others)), f"{what} differ from those of {', '.join(sorted(most))}")


def _own_contradictions(transcript: Transcript) -> Iterator[Contradiction]:
    """Yield the requests that do not fit their own statement or terms, and a conclusion about another round."""
    site = (transcript.site,)
    for request in (entry.request for entry in transcript.entries):
        before = request.statement
        if request.round > request.terms.rounds:
            yield Contradiction(request.round, site, f"the terms end with round {request.terms.rounds}")
        if (before.round if before else 0) != request.round - 1:
            yield Contradiction(request.round, site, "the request has no statement about the round before")
        elif before and before.model != request.model:
            yield Contradiction(request.round, site, "the model to start from is not that after the round before")
        if transcript.conclusion and transcript.conclusion.round != request.terms.rounds:
            yield Contradiction(transcript.conclusion.round, site, "the last statement is not about the last round")


def _unlike_statements(transcripts: Sequence[Transcript]) -> Iterator[Contradiction]:
    """Yield the places at which a statement that any site received does not fit the entries of each site."""
    present = {each.site for each in transcripts}
    members = {site for each in transcripts for entry in each.entries for site in entry.request.terms.members}
    sent: dict[tuple[int, str], set[str]] = {}
    for each in transcripts:
        for entry in each.entries:
            sent.setdefault((entry.request.round, each.site), set()).add(entry.update)
    for statement in (statement for each in transcripts for statement in statements(each)):
        for site in sorted(members | statement.updates.keys() | statement.excluded.keys()):
            if problem := _problem(statement, site, members, present, sent.get((statement.round, site), set())):
                yield Contradiction(statement.round, (site,), problem)


def _problem(statement: Statement, site: str, members: Set[str], present: Set[str], sent: Set[str]) -> str:
    """Return how *statement* does not fit the updates that *site* has *sent*; empty if it does."""
    listed = statement.updates.get(site)
    if members and site not in members:
        return "the coordinator names a site that is no member"
    if listed is None:
        return (
            "" if site in statement.excluded else "the coordinator lists no update of the site, and does not exclude it"
        )
    if site not in present or listed in sent:
        return ""
    return (
        "the coordinator lists another update than the site sent"
        if sent
        else "the coordinator lists an update of the site, which has no entry"
    )


def _terms(request: RoundRequest) -> str:
    return request.terms.model_dump_json()


def _format_values(values: Mapping[str, str]) -> str:
    return "; ".join(f"{site}: {value}" for site, value in sorted(values.items()))
