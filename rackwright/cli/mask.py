"""The command that masks personal data."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from rackwright import extras, terminal
from rackwright.cli import activity, project
from rackwright.cli.arguments import MODELS, AsJson
from rackwright.errors import DeclarationError, Diagnostic, SetupError, command, quantity

if TYPE_CHECKING:
    from rackwright.masking.check import MaskingCheck
    from rackwright.masking.report import MaskingReport

app = typer.Typer()


@app.command(rich_help_panel=MODELS)
def mask(
    policy: Annotated[Path, typer.Argument(metavar="POLICY", help="The YAML file of the masking policy.")],
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="A file, a directory, or - for standard input.")],
    to: Annotated[Path | None, typer.Option(metavar="TARGET", help="File or directory for the masked data.")] = None,
    stack: Annotated[str | None, typer.Option("--stack", help="Stack that has the secret of the policy.")] = None,
    form: Annotated[
        Literal["csv", "jsonl", "parquet"] | None,
        typer.Option("--format", help="Format of the data; by default that of the file's name."),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Compare masked data with their policy. Needs no key, and writes nothing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Replace personal data in CSV, JSON Lines or Parquet by the rules of a policy, and write a report beside them.

    Exit status: 0 masked, or nothing found by --check, 1 --check found something, 2 the policy or the data are refused,
    and the target is as before.
    """
    from rackwright.masking.policy import load_policy

    loaded = load_policy(policy)
    extras.MASKING.require("masking", "the check digits of identifiers")
    if check:
        from rackwright.masking.check import check_data

        with activity.show_work() as progress:
            checked = check_data(loaded, source, form, progress)
        _show_check(checked, as_json)
        raise typer.Exit(bool(checked["findings"]))
    if to is None or stack is None:
        raise typer.BadParameter("masking needs --to and --stack, and --check needs neither", param_hint="--to")
    from rackwright.cli import recording
    from rackwright.masking.run import Masking

    with (
        recording.record("mask", stack, arguments={"policy": loaded.policy}, planned=[]),
        activity.show_work() as progress,
    ):
        report = Masking(loaded, str(policy), _key(stack, loaded.key["secret"]), progress).run(source, to, form)
    if as_json:
        terminal.show_json(report)
        return
    for line in _lines(report, to):
        terminal.show(line)


def _key(stack: str, name: str) -> str:
    from rackwright.masking.pseudonyms import KEY_SHORTEST

    value, where = project.secret_values(stack).get(name, ""), f"secret {name}"
    help = f"Run {command('rackwright secret set {} {} --generate', stack, name)}"
    if not value:
        raise SetupError(Diagnostic(where, f"the stack {stack} has no value of it", "the key of the policy", help))
    if len(value) < KEY_SHORTEST:
        problem = f"the value has {len(value)} characters"
        raise DeclarationError(Diagnostic(where, problem, f"{KEY_SHORTEST} characters or more", help))
    return value


def _lines(report: "MaskingReport", target: Path) -> Iterator[str]:
    from workloads.masking_report import report_path

    files = quantity(len(report["files"]), "file")
    yield f"{target}: {quantity(report['records'], 'record')} in {files}, masked by {report['policy']}"
    for column in report["columns"]:
        found = ", ".join(f"{count} {kind}" for kind, count in column["found"].items())
        details = f"{column['changed']} of {quantity(column['values'], 'value')} changed"
        text = "left out" if column["rule"] == "drop" else f"{details}{f' ({found})' if found else ''}"
        yield f"  {column['name']}: {column['rule']}, {text}"
    for column in report["columns"]:
        if column["looks_like_identifier"]:
            yield f"warning: {column['name']} is kept, and looks like an identifier"
    if anonymity := report["anonymity"]:
        size = quantity(anonymity["smallest"], anonymity["unit"])
        more = " or more" if anonymity["unit"] == "person" else ""
        yield f"smallest of {quantity(anonymity['groups'], 'group')}: {size}{more}"
    yield f"not found: {'; '.join(report['not_covered'])}"
    yield f"report: {report_path(target)}"


def _show_check(checked: "MaskingCheck", as_json: bool) -> None:
    if as_json:
        terminal.show_json(checked)
        return
    for finding in checked["findings"]:
        terminal.show(f"{finding['place']}: {finding['column']}: {finding['problem']} ({finding['count']} in all)")
    found = quantity(len(checked["findings"]), "finding") if checked["findings"] else "as the policy says"
    terminal.show(f"{checked['policy']}: {quantity(checked['records'], 'record')}, {found}")
