"""The collector of one fleet file's errors, which raises all of them at once."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import BaseModel

from rackwright.errors import DeclarationError, Diagnostic
from rackwright.fleet.layers import Layers
from rackwright.fleet.problems import Detail, format_value, problems_of
from rackwright.schema.problem import Keys, Problem


@dataclass
class _Finding:
    line: int
    error: Diagnostic
    keys: Keys
    """The place of the error in the file."""
    heirs: set[str] = field(default_factory=set)
    """Hosts that inherit the error from their group."""
    own: bool = False
    """Whether the value is wrong by itself, in any host that inherits it."""


class Findings:
    """Errors by their places. A group's mistake is one error, however many hosts inherit it."""

    def __init__(self, layers: Layers) -> None:
        self.layers = layers
        self._findings: dict[str, _Finding] = {}

    def add(self, problem: Problem, keys: Keys, also: Keys | None = None) -> None:
        """Add *problem* at *keys* of the merged host; *also* are the keys of the value that it conflicts with."""
        source, origin = self.layers.source, self.layers.origin(keys)
        error = source.error(problem, origin, also and self.layers.origin(also))
        finding = self._findings.setdefault(str(error), _Finding(source.line(origin), error, origin))
        if origin == keys:
            finding.own = True
        else:
            finding.heirs.add(str(keys[1]))

    def add_details(self, model: type[BaseModel], details: Iterable[Detail], place: Keys) -> None:
        """Add the errors of pydantic about the *model* at *place*."""

        def format_written(keys: Keys, value: Any) -> str:
            """Return *value* as a message prints it, a number as the file has it: 0012 is not 12."""
            text = self.layers.source.text(self.layers.origin((*place, *keys)))
            return text if isinstance(value, int | float) and text is not None else format_value(keys, value)

        for problem, keys in problems_of(model, details, format_written):
            self.add_below(problem, (*place, *keys))

    def add_below(self, problem: Problem, place: Keys) -> None:
        """Add *problem*, which has its paths relative to *place*."""
        self.add(problem, (*place, *problem.path), None if problem.also is None else (*place, *problem.also))

    def discard(self, keys: Keys) -> None:
        """Remove the errors at and below *keys* of the merged host: another error has their cause."""
        origin = self.layers.origin(keys)
        for text, finding in [*self._findings.items()]:
            if finding.keys[: len(origin)] == origin:
                del self._findings[text]

    def raise_any(self) -> None:
        """Raise DeclarationError, in the order of the lines, if there is any error."""
        errors = [(finding.line, self._name_hosts(finding)) for finding in self._findings.values()]
        places = {error.where for _, error in errors}  # a number in the place of a text is one error
        mistakes = [each for each in self.layers.source.mistakes if each[1].where not in places]
        if errors := [*mistakes, *errors]:
            raise DeclarationError(*(error for _, error in sorted(errors, key=lambda each: each[0])))

    def _name_hosts(self, finding: _Finding) -> Diagnostic:
        """Return the error, with the hosts that contribute to it if only some hosts of a group have it."""
        error, group = finding.error, self.layers.group
        groups = {group(host) for host in finding.heirs}
        if finding.own or finding.heirs == {host for host in self.layers.hosts if group(host) in groups}:
            return error
        return replace(
            error, problem=f"{error.problem} (together with the lines of {', '.join(sorted(finding.heirs))})"
        )
