"""The roles of this repository, and the templates beside them."""

from pathlib import Path

from rackwright.kinds.house import House, load_roles

ROOT = Path(__file__).parents[2]
ROLES = load_roles(ROOT)
HOUSE = House.load(ROOT, b"salt")
