"""What was found wrong with one fleet's file: gathered here, told at once."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from rackwright.errors import DeclarationError, DeclarationErrors
from rackwright.fleet.layers import Layers
from rackwright.fleet.problems import Detail, problems_of, quoted
from rackwright.schema.problem import Keys, Problem


@dataclass
class _Finding:
    line: int
    error: DeclarationError
    takers: set[str] = field(default_factory=set)
    """Hosts that take it over from their group."""
    own: bool = False
    """It is wrong where it stands, whoever takes it over."""


class Findings:
    """Errors by their places. A group's mistake is one error, however many hosts take it over."""

    def __init__(self, layers: Layers) -> None:
        self._layers = layers
        self._found: dict[str, _Finding] = {}

    def add(self, problem: Problem, keys: Keys, also: Keys | None = None) -> None:
        """Add *problem* at *keys*; *also* is where the other value stands. Both as if no host had a group."""
        source, written = self._layers.source, self._layers.written(keys)
        error = source.error(problem, written, also and self._layers.written(also))
        found = self._found.setdefault(str(error), _Finding(source.line(written), error))
        if written == keys:
            found.own = True
        else:
            found.takers.add(str(keys[1]))

    def add_details(self, model: type[BaseModel], details: Iterable[Detail], place: Keys) -> None:
        """Add what pydantic found wrong with the *model* at *place*."""

        def shown(keys: Keys, value: Any) -> str:
            """Return numbers as they are written: 0012 is not 12."""
            text = self._layers.source.text(self._layers.written((*place, *keys)))
            return text if isinstance(value, int | float) and text is not None else quoted(keys, value)

        for problem, keys in problems_of(model, details, shown):
            self.add_below(problem, (*place, *keys))

    def add_below(self, problem: Problem, place: Keys) -> None:
        """Add *problem*, whose paths start at *place*."""
        self.add(problem, (*place, *problem.path), None if problem.also is None else (*place, *problem.also))

    def raise_any(self) -> None:
        """Raise DeclarationErrors, in the order of the lines, when there is one."""
        found = [*self._layers.source.repeated, *((each.line, self._named(each)) for each in self._found.values())]
        if found:
            raise DeclarationErrors(error for _, error in sorted(found, key=lambda each: each[0]))

    def _named(self, found: _Finding) -> DeclarationError:
        """Return the error; where only some hosts of a group have it, they did their part to it and are named."""
        error, group = found.error, self._layers.group
        groups = {group(host) for host in found.takers}
        if found.own or found.takers == {host for host in self._layers.hosts if group(host) in groups}:
            return error
        got = f"{error.got} (with what {', '.join(sorted(found.takers))} adds)"
        return DeclarationError(error.where, got, error.want, error.fix, error.source)
