"""The roles of this repository, and the templates beside them."""

from pathlib import Path

from rackwright.core.repository import Repository, Roles

ROOT = Path(__file__).parents[2]
ROLES = Roles(ROOT)
REPOSITORY = Repository.load(ROOT, b"salt")
