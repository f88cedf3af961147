"""From a recipe's name or a file to a configuration."""

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from workloads import config_file
from workloads.errors import WorkloadError
from workloads.recipes import RECIPES
from workloads.training.config import TrainingConfig


def read(what: str, changes: Sequence[str] = ()) -> TrainingConfig:
    """Return the configuration of a recipe, or of a file, with *changes* of the form ``key.key=value``.

    Raises:
        WorkloadError: there is no such recipe or file, or its values cannot be; says all that is wrong.
    """
    if what in RECIPES:
        values = RECIPES[what]().model_dump(mode="json")
    elif what.endswith(".json"):
        values = config_file.of_file(Path(what))
    else:
        near = get_close_matches(what, RECIPES, 1)
        fix = f"Write {near[0]}" if near else "Name a file that ends with .json to run your own"
        raise WorkloadError("recipe", f"got {what}", f"recipes are {', '.join(RECIPES)}", fix)
    return config_file.changed(TrainingConfig, what, values, changes)
