"""Versions of the programs of a cluster; modules/ has their sources with checksums."""

KUBERNETES = "1.37.2"
PREVIOUS = "1.36.4"
"""Version of the minor before, from which clusters are upgraded. Other programs have the same versions with both."""
ETCD = "3.7.3"
CONTAINERD = "2.4.2"
COREDNS = "1.14.6"
PAUSE = "3.10.2"
"""Version of the image of pods' first process that kubeadm 1.37 asks for; the program in ours is rackwright's own."""
REVISION = "0rackwright1"
"""Debian revision of the packages. A vendor's package of the same version, such as 1.37.2-1.1, counts as newer.

Other sources need another revision, here and in the variables of the roles: two packages of one version would be in the
pool.
"""
SOURCES = "cd8ed7310ab7eacd494e6864"
"""Digest of the modules and of the units, of which the revision is."""
