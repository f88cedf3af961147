"""The command `rackwright server iterate`: its actions outside the iteration's directory, and its output."""

import sys
from collections.abc import Sequence
from pathlib import Path

import typer

from rackwright import terminal
from rackwright.cli import project, pulumi, recording
from rackwright.errors import command
from rackwright.fleet.edit_server import replace_model
from rackwright.iteration import process, report
from rackwright.iteration.request import IterationRequest, Stage
from rackwright.iteration.run import StageFailed, iterate
from rackwright.progress import Progress
from rackwright.stack.server_model import model_to_serve
from rackwright.status import servers
from rackwright.toolchain import workloads


class _LocalActions:
    """The actions of an iteration, on this computer and through it on the stack's hosts."""

    def __init__(self, request: IterationRequest, yes: bool) -> None:
        self._request, self._yes = request, yes
        self._interpreter: Path | None = None

    def run_python(self, argv: Sequence[str], progress: Progress) -> tuple[int, str]:
        if self._interpreter is None:
            self._interpreter = workloads.ensure(self.progress).python
        return process.run(self._interpreter, argv, progress)

    def promote(self, model: str) -> None:
        stack = project.stack(self._request.stack.name)
        server = self._request.server
        served_model = model_to_serve(stack, server, model)
        path = project.rewrite(stack.name, lambda path: replace_model(path, server, served_model))
        self.progress(f"  {path.name}: {server} has {model}")

    def declared_version(self) -> str:
        return servers.specs(project.stack(self._request.stack.name), self._request.server)[0].version

    def roll_out(self) -> int:
        # stdout is for the report alone
        return pulumi.up(self._request.stack.name, yes=self._yes, stdout=sys.stderr)

    def progress(self, text: str) -> None:
        project.notify(text)


def run(request: IterationRequest, as_json: bool, yes: bool) -> None:
    """Iterate, and print the report, also after a refusal, which ends the command.

    Args:
        yes: Whether to change the hosts without asking the operator after the preview.

    Raises:
        ChangeRefused: The last stage would have to ask, and stdin is no terminal.
        StageFailed: A stage refused or failed before there was a report.
    """
    if request.until is Stage.UP and not yes:  # before hours of training
        terminal.require("Pass --yes to change the hosts without a question, or --until promote to touch no host")
    planned = [recording.change(request.server, f"iterate until {request.until.value}")]
    arguments = {"server": request.server, "data": str(request.data)}
    try:
        with recording.record("server iterate", request.stack, arguments=arguments, planned=planned):
            data = iterate(request, _LocalActions(request, yes))
    except StageFailed as error:
        if error.report is None:
            raise
        _print(error.report, as_json)  # with the reason: standard output has one JSON document
        terminal.notify_error(error.render())
        raise typer.Exit(error.exit_status) from None
    _print(data, as_json)
    if request.until is Stage.PROMOTE:
        project.notify(
            f"roll it out with {command('rackwright up {}', request.stack.name)}, or by this command without --until"
        )


def _print(data: report.ReportData, as_json: bool) -> None:
    if as_json:
        terminal.show_json(data)
    else:
        report.show(data, terminal.console())
