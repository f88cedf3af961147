"""The parts that all scripts have which print the configuration of a join."""

ENTRY = "/run/rackwright-join.yaml"
"""File of the configuration on the joining host."""
BEGIN = """\
printed=$(kubeadm token create --ttl 10m --print-join-command)
cat << END
apiVersion: kubeadm.k8s.io/v1beta4
kind: JoinConfiguration
nodeRegistration:
  name: $1
  criSocket: unix:///run/containerd/containerd.sock
"""
"""Makes a token that lives for ten minutes, and begins the configuration of host $1."""
END = """\
discovery:
  bootstrapToken:
    apiServerEndpoint: "$2"
    token: $(echo "$printed" | grep -oE '[a-z0-9]{6}[.][a-z0-9]{16}')
    caCertHashes: ["$(echo "$printed" | grep -oE 'sha256:[0-9a-f]{64}')"]
END
"""
"""Ends the configuration: the API at $2, the token, and the authority that the host may believe."""
