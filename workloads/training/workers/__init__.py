"""The processes that train together: alone, or one per device under Horovod or torchrun."""

from workloads.training.workers.join import join
from workloads.training.workers.workers import Workers

__all__ = ["Workers", "join"]
