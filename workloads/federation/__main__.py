"""Declare a federated training, rehearse it on one computer, and run it by files that institutions exchange.

    python -m workloads.federation terms digits --federation wards --members a b c d e --rounds 10 > terms.json
    python -m workloads.federation site a digits --terms terms.json --set data.only=[0,1,2,3] > a.json
    python -m workloads.federation rehearse a.json b.json c.json d.json e.json --out rehearsal
    python -m workloads.federation advance terms.json digits --signers signers --out rounds
    python -m workloads.federation answer a.json rounds/round-0001 --key ~/.ssh/id_ed25519 --out a

The terms are one file, the same for all sites; each operator reads it and declares a site with it. A site trains only
if the coordinator asks for exactly these terms, and its own code and recipe have the digests that stand there.
`rackwright federation verify` compares the signed transcripts of all sites.
"""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workloads import config_file
from workloads.command_line import as_command, new_parser
from workloads.config_schema import ConfigSchema
from workloads.errors import Diagnostic, UserError
from workloads.federation.config import SiteConfig, Terms, check_recipe, recipe_digest
from workloads.tracking.provenance import code_digest
from workloads.training.config import TrainingConfig
from workloads.training.load_config import load_config

if TYPE_CHECKING:
    from workloads.federation.coordinator import RoundResult

STATUS = "Exit status: 0 done, 2 wrong input, refused, or too few good updates."
CLIP_NORM = 5.0


def arguments() -> argparse.ArgumentParser:
    parser = new_parser("workloads.federation", __doc__, STATUS)
    commands = parser.add_subparsers(dest="command", required=True)
    terms = commands.add_parser("terms", help="print the terms of a federation", allow_abbrev=False)
    _add_recipe(terms)
    terms.add_argument("--federation", required=True, metavar="NAME", help="name of the federation")
    terms.add_argument("--members", required=True, nargs="+", metavar="SITE", help="all sites, by name")
    terms.add_argument("--rounds", required=True, type=int, metavar="N", help="rounds of the whole training")
    terms.add_argument(
        "--term", action="append", default=[], metavar="KEY=VALUE", dest="terms",
        help="another term, such as rule=krum, tolerated=2, strategy=fedprox or clip_norm=3.0; repeatable",
    )  # fmt: skip
    site = commands.add_parser("site", help="print the declaration of a site", allow_abbrev=False)
    site.add_argument("site", metavar="SITE", help="name of the site among the members")
    _add_recipe(site)
    site.add_argument("--terms", required=True, type=Path, metavar="FILE.json", help="the terms of the federation")
    advance = commands.add_parser("advance", help="as coordinator, open or close a round", allow_abbrev=False)
    advance.add_argument("terms", type=Path, metavar="TERMS.json", help="the terms of the federation")
    _add_recipe(advance)
    advance.add_argument(
        "--out", required=True, type=Path, metavar="DIR", help="directory with a folder for each round"
    )
    advance.add_argument(
        "--state",
        type=Path,
        metavar="DIR",
        help="directory of the coordinator alone; default: TERMS.state beside the terms",
    )
    advance.add_argument(
        "--signers", required=True, type=Path, metavar="FILE", help="file with a line SITE KEY for each member"
    )
    advance.add_argument("--close", action="store_true", help="close the round without the missing answers")
    answer = commands.add_parser("answer", help="as site, answer the request of a round", allow_abbrev=False)
    answer.add_argument("site", type=Path, metavar="SITE.json", help="declaration of the site")
    answer.add_argument("round", type=Path, metavar="ROUND", help="folder of the round")
    answer.add_argument(
        "--key", required=True, type=Path, metavar="FILE", help="SSH key that signs answer and transcript"
    )
    answer.add_argument("--out", required=True, type=Path, metavar="DIR", help="directory for the transcript")
    rehearse = commands.add_parser("rehearse", help="train with all sites in this process", allow_abbrev=False)
    rehearse.add_argument("sites", nargs="+", type=Path, metavar="SITE.json", help="declarations of all sites")
    rehearse.add_argument("--out", required=True, type=Path, metavar="DIR", help="directory for transcripts and keys")
    return parser


@as_command
def main(argv: list[str] | None = None) -> int:
    args = arguments().parse_args(argv)
    {"terms": _terms, "site": _site, "advance": _advance, "answer": _answer, "rehearse": _rehearse}[args.command](args)
    return 0


def _add_recipe(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", metavar="RECIPE|FILE.json", help="recipe of the training, or its file")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="changes",
        help="a value that replaces the recipe's, such as data.path=rows.npz; repeatable",
    )  # fmt: skip


def _terms(args: argparse.Namespace) -> None:
    recipe = load_config(args.recipe, args.changes)
    values: dict[str, Any] = {
        "federation": args.federation, "members": args.members, "rounds": args.rounds, "clip_norm": CLIP_NORM,
        "code": code_digest(), "recipe": recipe_digest(recipe),
    }  # fmt: skip
    terms = config_file.apply_changes(Terms, "terms", values, args.terms)
    check_recipe(recipe, terms.rounds)
    _print(terms)


def _site(args: argparse.Namespace) -> None:
    recipe = load_config(args.recipe, args.changes)
    values = {"site": args.site, "terms": config_file.load_json(args.terms), "recipe": recipe.model_dump(mode="json")}
    config = config_file.apply_changes(SiteConfig, str(args.terms), values, ())
    check_recipe(recipe, config.terms.rounds)
    _check_digests(args.terms, config.terms, recipe)
    _print(config)


def _check_digests(path: Path, terms: Terms, recipe: TrainingConfig) -> None:
    """Raise unless code and recipe of this computer are those of *terms*.

    Raises:
        UserError: One of them differs.
    """
    for name, found in (("recipe", recipe_digest(recipe)), ("code", code_digest())):
        if (expected := getattr(terms, name)) != found:
            problem = f"the {name} here has the digest {found}"
            help = "Use the release and the recipe of the other sites, with other data alone"
            raise UserError(Diagnostic(f"{path}: {name}", problem, expected, help))


def _advance(args: argparse.Namespace) -> None:
    terms = config_file.apply_changes(Terms, str(args.terms), config_file.load_json(args.terms), ())
    recipe = load_config(args.recipe, args.changes)
    check_recipe(recipe, terms.rounds)
    _check_digests(args.terms, terms, recipe)
    from workloads.federation.local_training import initial_model
    from workloads.federation.rounds import advance

    state = args.state or args.terms.with_suffix(".state")
    progress = advance(args.out, state, terms, initial_model(recipe), args.signers, args.close)
    for path in progress.changed:
        print(f"{path} was not as this coordinator has written it, and is now")
    if progress.result:
        _print_round(progress.result)
    for site, reason in progress.refused.items():
        print(f"  {site} has not answered: {reason}")
    if progress.done:
        print(f"round {progress.round} was the last one")
    else:
        print(f"round {progress.round} waits for {', '.join(progress.missing)}")


def _answer(args: argparse.Namespace) -> None:
    config = config_file.apply_changes(SiteConfig, str(args.site), config_file.load_json(args.site), ())
    from workloads.federation.rounds import answer
    from workloads.federation.site import Site

    print(answer(Site(config, args.out, args.key), args.round))


def _rehearse(args: argparse.Namespace) -> None:
    configs = [config_file.apply_changes(SiteConfig, str(path), config_file.load_json(path), ()) for path in args.sites]
    from workloads.federation.rehearsal import rehearse

    for result in rehearse(configs, args.out):
        _print_round(result)


def _print_round(result: "RoundResult") -> None:
    statement, scores = result.statement, result.accuracy
    mean = sum(scores.values()) / len(scores)
    line = f"round {statement.round}: {len(scores) - len(statement.excluded.keys() & scores.keys())} updates"
    print(f"{line}; accuracy before it {mean:.4f} on the held-out rows of the sites", flush=True)
    for site, reason in statement.excluded.items():
        print(f"  {site} excluded: {reason}", flush=True)


def _print(declaration: ConfigSchema) -> None:
    print(declaration.model_dump_json(indent=2))


if __name__ == "__main__":
    sys.exit(main())
