"""`rackwright server iterate`: what it does beyond its own directory, and how it is told."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from rackwright import terminal
from rackwright.cli import project, pulumi
from rackwright.errors import command
from rackwright.fleet.edit_server import replace_model
from rackwright.iteration import process, report
from rackwright.iteration.request import IterationRequest, Stage
from rackwright.iteration.run import InStage, iterate
from rackwright.progress import Progress
from rackwright.stack.server_model import model_to_serve
from rackwright.status import servers
from rackwright.toolchain import workloads


class _Here:
    """This computer, and the stack's hosts behind it."""

    def __init__(self, asked: IterationRequest) -> None:
        self._asked = asked
        self._interpreter: Path | None = None

    def python(self, argv: Sequence[str], progress: Progress) -> tuple[int, str]:
        if self._interpreter is None:
            self._interpreter = workloads.ensure(self.progress).python
        return process.run(self._interpreter, argv, progress)

    def promote(self, model: str) -> None:
        stack = project.stack(self._asked.stack.name)
        server = self._asked.server
        chosen = model_to_serve(stack, server, model)
        path = project.rewrite(stack.name, lambda path: replace_model(path, server, chosen))
        self.progress(f"  {path.name}: {server} has {model}")

    def declared(self) -> str:
        return servers.specs(project.stack(self._asked.stack.name), self._asked.server)[0].version

    def up(self) -> int:
        return pulumi.run("up", self._asked.stack.name, sys.stderr)  # the report alone is the result

    def progress(self, text: str) -> None:
        project.say(text)


def run(asked: IterationRequest, as_json: bool) -> None:
    """Iterate, and print the report, refused or not.

    Raises:
        InStage: it did not come to its end.
    """
    try:
        told = iterate(asked, _Here(asked))
    except InStage as error:
        if error.report is not None:
            _print(error.report, as_json)
        raise
    _print(told, as_json)
    if asked.until is Stage.PROMOTE:
        project.say(
            f"roll it out with {command('rackwright up {}', asked.stack.name)}, or by this command without --until"
        )


def _print(told: report.ReportData, as_json: bool) -> None:
    if as_json:
        terminal.show(json.dumps(told, indent=2))
    else:
        report.show(told, terminal.console())
