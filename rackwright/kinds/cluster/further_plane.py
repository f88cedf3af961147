"""How a host joins a cluster as a further control plane: with the keys of the authorities, and a member of etcd.

The first control plane encrypts its keys with a key that is made for this join alone, and puts them into a secret of
the cluster. The joining host gets that key as it gets the token. When the host has joined, the secret and the token are
deleted; otherwise the secret expires after two hours, and the token after ten minutes.
Source: Kubernetes, "Creating Highly Available Clusters with kubeadm"
"""

from collections.abc import Iterator

from rackwright.core.contract import Claim, Command, PutOutput
from rackwright.kinds.cluster import join_files
from rackwright.schema.cluster import API_PORT

SETTINGS = "/etc/rackwright/kubernetes"
"""Directory of role kubernetes_control_plane."""
JOINING = f"file:{SETTINGS}/joining.present"
"""The property that differs while a join was cut."""
JOIN_SECONDS = 1800
"""Time for joining: images are unpacked, and etcd copies its data."""
_FILES = ("admission.yaml", "audit-policy.yaml", "authentication.yaml", "encryption.yaml")
"""Files that the API server reads when it starts; the role writes them again after the join."""
_KEYS = """\
set -eu
umask 077
export KUBECONFIG=/etc/kubernetes/admin.conf
key=$(kubeadm certs certificate-key)
config=$(mktemp -p /run)
trap 'rm -f "$config"' EXIT
# in the environment, because other accounts see the arguments of programs
KEY=$key awk '{ print } /^kind: InitConfiguration$/ { print "certificateKey: \\"" ENVIRON["KEY"] "\\"" }' \
  /etc/rackwright/kubernetes/kubeadm.yaml > "$config"
kubeadm init phase upload-certs --upload-certs --skip-certificate-key-print --config "$config" > /dev/null
"""
"""Uploads the keys of the authorities, encrypted by a new key, which `key` is then."""
_PLANE = """\
controlPlane:
  localAPIEndpoint: {advertiseAddress: "$3", bindPort: 6443}
  certificateKey: "$key"
timeouts:
  controlPlaneComponentHealthCheck: 15m0s
  etcdAPICall: 5m0s
  kubeletHealthCheck: 15m0s
  kubernetesAPICall: 10m0s
"""
_INVITE = _KEYS + join_files.BEGIN + _PLANE + join_files.END
"""Script of the first control plane: prints the configuration by which $1 joins at $2, and serves the API at $3."""
_FORGET = """\
set -eu
export KUBECONFIG=/etc/kubernetes/admin.conf
kubectl="kubectl --namespace=kube-system"
# its owner is a token that would end it after two hours
token=$($kubectl get secret kubeadm-certs --ignore-not-found --output=jsonpath='{.metadata.ownerReferences[0].name}')
$kubectl delete secret kubeadm-certs ${token:+"$token"} --ignore-not-found
$kubectl get secrets --field-selector=type=bootstrap.kubernetes.io/token \
  --output=go-template='{{range .items}}{{.metadata.name}} {{.data.description}}{{"\\n"}}{{end}}' |
  while read -r name text; do
    [ "$(echo "$text" | base64 -d 2> /dev/null)" != "join of $1" ] ||
      $kubectl delete secret "$name" --ignore-not-found
  done
"""
"""Script of the first control plane that deletes the keys and the token by which host $1 has joined."""
_JOIN = """\
set -eu
umask 022
trap 'rm -f "$2"' EXIT
cd "$3"
# what a join that was cut has left, its member of etcd too
[ ! -e joining ] || kubeadm reset --force
for path in /etc/kubernetes/pki/ca.key /var/lib/etcd/member; do
  [ ! -e "$path" ] || { echo "$path is there: the host has keys or data of another cluster" >&2; exit 1; }
done
touch joining
ignored=Port-10250
# the kernel of a container is that of another computer
if systemd-detect-virt --container --quiet; then ignored=$ignored,SystemVerification; fi
kubeadm join --config "$2" --ignore-preflight-errors="$ignored"
touch joined
mv joining made
"""
"""Script of host $1 that joins by the configuration $2; the notes in $3 are those of role kubernetes_control_plane."""


def url(address: str) -> str:
    """Return the URL of the API that a control plane serves at *address*."""
    return f"https://[{address}]:{API_PORT}" if ":" in address else f"https://{address}:{API_PORT}"


def claims() -> Iterator[Claim]:
    """Yield the claim that no join was cut."""
    yield Claim(f"file:{SETTINGS}/joining", {"present": False})


def join(host: str, cluster: str, plane: str, endpoint: str, address: str) -> tuple[PutOutput | Command, ...]:
    """Return the steps by which *host* joins *cluster*, whose first control plane is *plane*."""
    directory = Command(f"create {SETTINGS}", ("install", "-d", "-m", "0700", SETTINGS))
    settings = (
        PutOutput(f"copy {SETTINGS}/{name} from {plane}", plane, ("cat", f"{SETTINGS}/{name}"), f"{SETTINGS}/{name}")
        for name in _FILES
    )
    invite = ("sh", "-c", _INVITE, "sh", host, endpoint, address)
    script = ("sh", "-c", _JOIN, "sh", host, join_files.ENTRY, SETTINGS)
    return (
        directory,
        *settings,
        PutOutput(f"get a token and a certificate key of {plane}", plane, invite, join_files.ENTRY, 120),
        Command(f"join cluster {cluster} as a control plane", script, timeout_seconds=JOIN_SECONDS),
        PutOutput(f"delete the uploaded keys and the token on {plane}", plane, ("sh", "-c", _FORGET, "sh", host), ""),
    )
