"""rackwright: private AI on bare metal, declared, provisioned and audited."""

__version__ = "0.1.0"
