"""rackwright: private AI on bare metal, declared, provisioned and audited."""

from typing import TYPE_CHECKING

from rackwright.locations import make_workloads_importable

if TYPE_CHECKING:
    from rackwright.program import Rack, run

__all__ = ["Rack", "run"]
__version__ = "0.1.0"

make_workloads_importable()

if not TYPE_CHECKING:  # mypy takes the names above, and reports others

    def __getattr__(name: str) -> object:
        """Return a name for Pulumi programs. Pulumi is imported at the first use: the command line does not need it."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from rackwright import program

        return getattr(program, name)
