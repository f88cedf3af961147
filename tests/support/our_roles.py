"""The roles of this repository, and the templates beside them."""

from pathlib import Path

from rackwright.core.repository import Repository, load_roles

ROOT = Path(__file__).parents[2]
ROLES = load_roles(ROOT)
REPOSITORY = Repository.load(ROOT, b"salt")
