"""The kinds of a Kubernetes cluster: the membership of a host, and the cluster as its API describes it."""

from rackwright.kinds.cluster.cluster import ClusterKind, ClusterSpec
from rackwright.kinds.cluster.node import NodeKind, NodeSpec

__all__ = ["ClusterKind", "ClusterSpec", "NodeKind", "NodeSpec"]
