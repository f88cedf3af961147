"""The credentials and configurations by which hosts join a cluster.

A host that runs pods gets a certificate of its own node for an hour, which the control plane makes. The API gives its
holder nothing of other nodes. A further control plane gets a token, and the keys of the authorities with it.
"""

CREDENTIALS = "/run/rackwright-join.conf"
"""File of the kubeconfig on a joining host that runs pods."""
ENTRY = "/run/rackwright-join.yaml"
"""File of the configuration of a join."""
INVITE = """\
set -eu
umask 077
export KUBECONFIG=/etc/kubernetes/admin.conf
printed=$(mktemp -p /run)
trap 'rm -f "$printed"' EXIT
kubeadm kubeconfig user --config /etc/rackwright/kubernetes/kubeadm.yaml \\
  --org system:nodes --client-name "system:node:$1" --validity-period 1h > "$printed"
sed -E "s|^( *server: ).*|\\1https://$2|" "$printed"
"""
"""Script of the control plane: prints the kubeconfig of node $1, with a new key and the API at $2."""
NODE = """\
cat > "$3" << END
apiVersion: kubeadm.k8s.io/v1beta4
kind: JoinConfiguration
nodeRegistration:
  name: $1
  criSocket: unix:///run/containerd/containerd.sock
discovery:
  file: {kubeConfigPath: "$2"}
END
"""
"""Writes the configuration by which host $1 joins with the credentials $2 into the file $3."""
BEGIN = """\
printed=$(kubeadm token create --ttl 10m --description "join of $1" --print-join-command)
cat << END
apiVersion: kubeadm.k8s.io/v1beta4
kind: JoinConfiguration
nodeRegistration:
  name: $1
  criSocket: unix:///run/containerd/containerd.sock
"""
"""Makes a token that lives for ten minutes, and begins the configuration of the control plane $1."""
END = """\
discovery:
  bootstrapToken:
    apiServerEndpoint: "$2"
    token: $(echo "$printed" | grep -oE '[a-z0-9]{6}[.][a-z0-9]{16}')
    caCertHashes: ["$(echo "$printed" | grep -oE 'sha256:[0-9a-f]{64}')"]
END
"""
"""Ends the configuration: the API at $2, the token, and the authority that the host may believe."""
