"""The kinds of runs and servers on Kubernetes: what their pods need on each host, and the objects of the cluster."""

from rackwright.kinds.pods.pod_files import PodFilesKind
from rackwright.kinds.pods.pods import PodsKind
from rackwright.kinds.pods.spec import PodFilesSpec, PodsSpec

__all__ = ["PodFilesKind", "PodFilesSpec", "PodsKind", "PodsSpec"]
