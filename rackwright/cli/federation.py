"""The commands of federated trainings: their state, and the comparison of the transcripts of all sites."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rackwright import terminal
from rackwright.cli.arguments import AsJson
from rackwright.errors import Diagnostic, UserError, quantity

if TYPE_CHECKING:
    from rackwright.cli.json_log_types import FederationCheck, FederationStatus
    from workloads.federation.round_folders import RoundsStatus
    from workloads.federation.transcript import Transcript

app = typer.Typer(no_args_is_help=True, help="Federated trainings.")


@app.command()
def status(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Directory of the coordinator, with its rounds.")],
    state: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Directory of the coordinator's state; else DIR counts as it is.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show the round of a federated training, the sites that have answered it, and the excluded ones. Reads files.

    Exit status: 0 the state was read, 2 the directory has no round, or a message is damaged.
    """
    from workloads.federation.round_folders import read_status

    document = _status(read_status(directory, state))
    if as_json:
        terminal.show_json(document)
        return
    phase = "done" if document["done"] else "open"
    terminal.show(f"{document['federation']}: round {document['round']} of {document['rounds']}, {phase}")
    for each in document["sites"]:
        answer = "no answer" if each["accuracy"] is None else f"answered, accuracy {each['accuracy']:.4f}"
        terminal.show(f"  {each['site']}: {answer}, excluded from {quantity(len(each['excluded']), 'round')}")
        for excluded in each["excluded"]:
            terminal.show(f"    round {excluded['round']}: {excluded['reason']}")


def _status(found: "RoundsStatus") -> "FederationStatus":
    return {
        "federation": found.terms.federation,
        "round": found.round,
        "rounds": found.terms.rounds,
        "done": found.done,
        "sites": [
            {
                "site": site,
                "accuracy": found.replies[site].accuracy if site in found.replies else None,
                "excluded": [
                    {"round": number, "reason": statement.excluded[site]}
                    for number, statement in sorted(found.statements.items())
                    if site in statement.excluded
                ],
            }
            for site in found.terms.members
        ],
    }


@app.command()
def verify(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE…", help="Transcripts of sites, each with its .sig beside it.")
    ],
    signers: Annotated[
        Path, typer.Option(metavar="FILE", help="Public key of each site, as allowed signers of ssh-keygen.")
    ],
    as_json: AsJson = False,
) -> None:
    """Compare the signed transcripts of all sites: whether the coordinator was the same to each of them. Reads files.

    Each signature is checked first. Then members, rules, digests of code, recipe, models and updates are compared, and
    the statements of the coordinator with what each site sent; repeats of a round count, too.

    Exit status: 0 all transcripts agree, 1 they contradict each other, 2 a transcript or its signature is wrong,
    3 the transcript of a member, a round of the terms or the last statement is missing.
    """
    transcripts = _read(files, signers)
    document = _document(transcripts)
    is_partial = bool(document["missing"] or document["gaps"])
    if as_json:
        terminal.show_json(document)
    else:
        for each in document["contradictions"]:
            terminal.show(f"round {each['round']}: {', '.join(each['sites'])}: {each['problem']}")
        for site in document["missing"]:
            terminal.show(f"{site}: no transcript")
        for gap in document["gaps"]:
            terminal.show(f"round {gap['round']}: {', '.join(gap['sites']) or 'all sites'}: {gap['problem']}")
        agree = "parts are missing, and the others agree" if is_partial else "all agree"
        result = "they contradict each other" if document["contradictions"] else agree
        rounds = quantity(document["rounds"], "round")
        terminal.show(f"{quantity(len(transcripts), 'transcript')}, {rounds}: {result}")
        for sentence in document["learnt"]:
            terminal.show(sentence)
    raise typer.Exit(1 if document["contradictions"] else 3 if is_partial else 0)


def _read(files: list[Path], signers: Path) -> "list[Transcript]":
    """Return the verified transcripts of *files*, one for each site."""
    from workloads.federation.transcript import read_verified

    found: dict[str, tuple[Path, Transcript]] = {}
    for path in files:
        transcript = read_verified(path, signers)
        if transcript.site in found:
            problem = f"it is a transcript of {transcript.site}, and so is {found[transcript.site][0]}"
            raise UserError(Diagnostic(str(path), problem, "one transcript for each site", "Name one of them"))
        found[transcript.site] = path, transcript
    return [transcript for _, transcript in found.values()]


def _document(transcripts: "list[Transcript]") -> "FederationCheck":
    from workloads.federation.compare import contradictions, gaps, learnt, missing_members, rounds

    return {
        "sites": [each.site for each in transcripts],
        "missing": missing_members(transcripts),
        "rounds": rounds(transcripts),
        "gaps": [{"round": each.round, "sites": each.sites, "problem": each.problem} for each in gaps(transcripts)],
        "contradictions": [
            {"round": each.round, "sites": each.sites, "problem": each.problem} for each in contradictions(transcripts)
        ],
        "learnt": learnt(transcripts),
    }
