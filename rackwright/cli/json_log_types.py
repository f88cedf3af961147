"""The types of the JSON documents of `rackwright log` and `rackwright federation`; see json_types.py."""

from collections.abc import Sequence

from typing_extensions import TypedDict  # pydantic reads no other one on Python 3.11

from rackwright.log.entry import EntryData


class LogEntries(TypedDict):
    """Entries of the operations log."""

    path: str
    """Path of the log."""
    log: str
    """Identifier of the log."""
    entries: Sequence[EntryData]
    """Entries that match, in their order."""


class BreakData(TypedDict):
    """The first place at which the operations log is not whole."""

    sort: str
    """Sort of the change: `edited`, `deleted`, `inserted`, `swapped`, `truncated`, `forked`, `unknown_key` or
    `revoked_key`."""
    line: int
    """Number of the line in the file, from 1."""
    sequence: int | None
    """Number of the entry there; null if the line cannot be read."""
    problem: str
    """The place and the change, in words."""


class LogKey(TypedDict):
    """A key of the operations log."""

    fingerprint: str
    """Fingerprint of the key."""
    added_at: int
    """Number of the entry that added the key."""
    revoked_at: int | None
    """Number of the entry that revoked the key; null for a valid key."""


class HeadsData(TypedDict):
    """The comparison with the heads at a second place."""

    place: str
    """The second place."""
    reached: bool
    """Whether the place was read."""
    copied: int | None
    """Number of the last entry whose head is there; null for none."""
    problem: str
    """Difference or error; empty without one."""


class FederationContradiction(TypedDict):
    """A place at which transcripts of sites contradict each other, or the site's own messages."""

    round: int
    """Number of the round."""
    sites: Sequence[str]
    """Sites whose transcripts differ from the others."""
    problem: str
    """The difference."""


class FederationExclusion(TypedDict):
    """A round in which the update of a site did not count."""

    round: int
    """Number of the round."""
    reason: str
    """Reason of the coordinator."""


class FederationSite(TypedDict):
    """The part of one site in a federated training."""

    site: str
    """Name of the site."""
    accuracy: float | None
    """Accuracy of the received model on the site's held-out rows; null without an answer to the newest round."""
    excluded: Sequence[FederationExclusion]
    """Closed rounds in which its update did not count."""


class FederationStatus(TypedDict):
    """The state of a federated training."""

    federation: str
    """Name of the federation."""
    round: int
    """Number of the newest round."""
    rounds: int
    """Number of all rounds."""
    done: bool
    """Whether the last round is closed."""
    sites: Sequence[FederationSite]
    """All members."""


class FederationGap(TypedDict):
    """A part of a round that was not compared, since transcripts lack it."""

    round: int
    """Number of the round."""
    sites: Sequence[str]
    """Sites whose transcripts lack it; empty if all of them do."""
    problem: str
    """The part."""


class FederationCheck(TypedDict):
    """The comparison of the transcripts of a federated training."""

    sites: Sequence[str]
    """Sites whose transcripts and signatures were read."""
    missing: Sequence[str]
    """Members without a transcript."""
    rounds: int
    """Number of rounds in these transcripts."""
    gaps: Sequence[FederationGap]
    """Rounds and statements that transcripts lack."""
    contradictions: Sequence[FederationContradiction]
    """All contradictions, by round."""
    learnt: Sequence[str]
    """Sentences about the information that coordinator and sites could take from the messages."""


class LogVerification(TypedDict):
    """The check of an operations log."""

    path: str
    """Path of the log."""
    log: str
    """Identifier of the log."""
    entries: int
    """Number of whole entries, up to the first broken place."""
    broken: BreakData | None
    """The first broken place; null for a whole log."""
    keys: Sequence[LogKey]
    """All keys that may sign, or might once."""
    unfinished: Sequence[int]
    """Numbers of the entries of operations without an end: they still run, or were killed."""
    heads: Sequence[HeadsData]
    """The comparisons with second places."""


class LogExport(TypedDict):
    """An exported operations log."""

    directory: str
    """Directory of the files."""
    files: Sequence[str]
    """Names of the files."""
    entries: int
    """Number of whole entries."""


class LogHead(TypedDict):
    """A head that is at a second place."""

    place: str
    """The second place."""
    log: str
    """Identifier of the log."""
    sequence: int
    """Number of the entry."""
    hash: str
    """SHA-256 of the entry."""
