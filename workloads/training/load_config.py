"""Loading of a configuration from a recipe or a file."""

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from workloads import config_file
from workloads.errors import Diagnostic, UserError
from workloads.recipes import RECIPES
from workloads.training.config import TrainingConfig


def load_config(source: str, changes: Sequence[str] = ()) -> TrainingConfig:
    """Return the configuration of a recipe or a file, with *changes* of the form ``key.key=value``.

    Raises:
        UserError: The recipe or file is missing, or values are invalid; the message lists all problems.
    """
    if source in RECIPES:
        values = RECIPES[source]().model_dump(mode="json")
    elif source.endswith(".json"):
        values = config_file.load_json(Path(source))
    else:
        near = get_close_matches(source, RECIPES, 1)
        help = f"Write {near[0]}" if near else "Name a file that ends with .json for your own configuration"
        raise UserError(Diagnostic("recipe", f"no such recipe, {source}", f"one of {', '.join(RECIPES)}", help))
    return config_file.apply_changes(TrainingConfig, source, values, changes)
