"""The families of models, and the choice by the file of new data."""

from pathlib import Path

from rackwright.errors import DeclarationError, Diagnostic
from rackwright.iteration.classifiers import Classifiers
from rackwright.iteration.family import Family
from rackwright.iteration.language_models import LanguageModels

FAMILIES: tuple[Family, ...] = (Classifiers(), LanguageModels())


def family_of(data: Path) -> Family:
    """Return the family of models that learns from the file *data*, by its suffix.

    Raises:
        DeclarationError: The suffix is of no family.
    """
    for family in FAMILIES:
        if data.suffix in family.data:
            return family
    expected = " or ".join(dict.fromkeys(text for family in FAMILIES for text in family.data.values()))
    problem, help = f"{data} is neither .npz, .jsonl nor .parquet", "Write the new data in one of these forms"
    raise DeclarationError(Diagnostic("--data", problem, expected, help))


def family_named(name: str) -> Family:
    """Return the family with that *name* in a report."""
    return next(family for family in FAMILIES if family.name == name)
