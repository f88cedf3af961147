"""The coordinator's own record of a training, in a directory of its account alone; readable without NumPy.

The folders of the rounds are copies for the sites, to which others may write: the coordinator reads answers from them,
and nothing that it has written itself.
"""

from pathlib import Path
from typing import Literal

from workloads.config_schema import ConfigSchema
from workloads.errors import Diagnostic, UserError
from workloads.federation.messages import RoundRequest, Statement, read_message
from workloads.federation.shared_folders import SharedPath

FILE = "state.json"


class CoordinatorState(ConfigSchema):
    """The request that is open, or the last one, and the statements about the closed rounds."""

    format: Literal[1] = 1
    request: RoundRequest
    statements: tuple[Statement, ...] = ()

    @property
    def conclusion(self) -> Statement | None:
        """Statement about the last round; None while a round is open."""
        return self.statements[-1] if len(self.statements) == self.request.terms.rounds else None

    @property
    def model(self) -> str:
        """Digest of the model to train next, or of the result."""
        return self.conclusion.model if self.conclusion else self.request.model


def read(directory: Path) -> CoordinatorState | None:
    """Return the state in *directory*; None before the first round.

    Raises:
        UserError: The file cannot be read, or is none of this release.
    """
    path = SharedPath(directory) / FILE
    return read_message(path, CoordinatorState) if path.exists() else None


def check_apart(directory: Path, shared: Path) -> None:
    """
    Raises:
        UserError: *directory*, that of the state, is within *shared*, which others may write to.
    """
    if directory.resolve().is_relative_to(shared.resolve()):
        problem = f"{directory} is within {shared}, which others may write to"
        raise UserError(
            Diagnostic("--state", problem, "a directory of the coordinator alone", "Name another directory")
        )
