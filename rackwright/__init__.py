"""rackwright: private AI on bare metal, declared, provisioned and audited."""

from rackwright.locations import make_workloads_importable

__version__ = "0.1.0"

make_workloads_importable()
