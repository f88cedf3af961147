"""The comparison of the transcripts of all sites: whether the coordinator was the same to each of them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from workloads.federation.messages import RoundRequest, Statement
from workloads.federation.transcript import Entry, Transcript


@dataclass(frozen=True, slots=True)
class Contradiction:
    """A place at which transcripts contradict each other, or themselves."""

    round: int
    sites: tuple[str, ...]
    problem: str


def contradictions(transcripts: Sequence[Transcript]) -> list[Contradiction]:
    """Return all contradictions, by round.

    The statements are records of the sites: a contradiction shows that the coordinator was not the same to all sites,
    or that one of these sites has recorded another thing.
    """
    found = [
        *_different_values(transcripts),
        *(each for transcript in transcripts for each in _own_contradictions(transcript)),
    ]
    return sorted(found, key=lambda each: (each.round, each.sites))


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


def last_entries(transcript: Transcript) -> dict[int, Entry]:
    """Return the last entry of each round; a round is repeated after a failure of the coordinator."""
    return {entry.request.round: entry for entry in transcript.entries}


def statements(transcript: Transcript) -> dict[int, Statement]:
    """Return the statements that a site received, by the round that they are about."""
    received = [entry.request.statement for entry in last_entries(transcript).values()]
    return {each.round: each for each in (*received, transcript.conclusion) if each}


def _different_values(transcripts: Sequence[Transcript]) -> Iterator[Contradiction]:
    requests = {each.site: {round: e.request for round, e in last_entries(each).items()} for each in transcripts}
    received = {each.site: statements(each) for each in transcripts}
    for round in sorted({round for each in requests.values() for round in each}):
        here = {site: each[round] for site, each in requests.items() if round in each}
        yield from _different(round, "members, code, recipe or rules", {s: _terms(r) for s, r in here.items()})
        yield from _different(round, "the model to start from", {site: r.model for site, r in here.items()})
    for round in sorted({round for each in received.values() for round in each}):
        about = {site: each[round] for site, each in received.items() if round in each}
        yield from _different(round, "the received updates", {s: _format_values(e.updates) for s, e in about.items()})
        yield from _different(round, "the excluded sites", {s: _format_values(e.excluded) for s, e in about.items()})
        yield from _different(round, "the model after the round", {site: each.model for site, each in about.items()})


def _different(round: int, what: str, values: Mapping[str, str]) -> Iterator[Contradiction]:
    """Yield a contradiction if *values*, by site, are not all the same; its sites are those with the rarer values."""
    counts: dict[str, list[str]] = {}
    for site, value in values.items():
        counts.setdefault(value, []).append(site)
    if len(counts) > 1:
        most = max(counts.values(), key=len)
        others = tuple(sorted(site for sites in counts.values() if sites is not most for site in sites))
        yield Contradiction(round, others, f"{what} differ from those of {', '.join(sorted(most))}")


def _own_contradictions(transcript: Transcript) -> Iterator[Contradiction]:
    """Yield the places at which statements do not fit what the site itself sent and received."""
    site, entries = transcript.site, last_entries(transcript)
    for round, statement in statements(transcript).items():
        listed = statement.updates.get(site)
        if round in entries and listed not in (None, entries[round].update):
            yield Contradiction(round, (site,), "the coordinator lists another update than the site sent")
        if round in entries and listed is None and site not in statement.excluded:
            yield Contradiction(round, (site,), "the coordinator lists no update of the site, and does not exclude it")
        following = entries.get(round + 1)
        if following and following.request.model != statement.model:
            yield Contradiction(round + 1, (site,), "the model to start from is not that after the round before")


def _terms(request: RoundRequest) -> str:
    return request.terms.model_dump_json()


def _format_values(values: Mapping[str, str]) -> str:
    return "; ".join(f"{site}: {value}" for site, value in sorted(values.items()))
