"""Faults of a control plane of Kubernetes: a component that is gone, and certificates that end soon."""

from rackwright.errors import DeclarationError, Diagnostic
from rackwright.twin.guest_shell import require_power, run_in_guest
from rackwright.twin.twin import Twin

COMPONENTS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
"""Static pods of a control plane, by the names of their manifests and processes."""
WAIT_SECONDS = 120
"""Seconds until kubelet has ended or started a component: it looks at its manifests every 20 s."""

_WAIT = f"""\
wait_until() {{
    for second in $(seq {WAIT_SECONDS}); do "$@" && return; sleep 1; done
    return 1
}}
"""
_LOSE = f"""\
set -e
{_WAIT}
cd /etc/kubernetes
[ -e "manifests/$1.yaml" ] || [ -e "$1.lost.yaml" ] || {{ echo "the host has no $1" >&2; exit 1; }}
[ ! -e "manifests/$1.yaml" ] || mv "manifests/$1.yaml" "$1.lost.yaml"
gone() {{ ! pgrep --exact "$(echo "$1" | cut -c -15)" > /dev/null; }}
wait_until gone "$1"
"""
_RETURN = f"""\
set -e
{_WAIT}
cd /etc/kubernetes
[ -e "manifests/$1.yaml" ] || [ -e "$1.lost.yaml" ] || {{ echo "the host has no $1" >&2; exit 1; }}
[ ! -e "$1.lost.yaml" ] || mv "$1.lost.yaml" "manifests/$1.yaml"
wait_until pgrep --exact "$(echo "$1" | cut -c -15)" > /dev/null
"""
_SHORTEN = """\
set -e
sed "s/^kind: ClusterConfiguration$/&\\ncertificateValidityPeriod: ${1}s/" \
    /etc/rackwright/kubernetes/kubeadm.yaml > /root/short.yaml
for each in apiserver admin.conf controller-manager.conf scheduler.conf; do
    kubeadm certs renew "$each" --config /root/short.yaml > /dev/null
done
rm /root/short.yaml
[ "$1" -ge "$2" ] || sleep "$(($1 + 1))"
"""


def lose_component(twin: Twin, host: str, component: str) -> None:
    """Take *component* from the control plane *host*, until `return_component`.

    Raises:
        DeclarationError: there is no such component.
        StepFailed: the host is off, is no control plane, or still runs the component after two minutes.
    """
    run_in_guest(_on(twin, host), host, _LOSE, _check(host, component), component)


def return_component(twin: Twin, host: str, component: str) -> None:
    """Give *component* back to the control plane *host*."""
    run_in_guest(_on(twin, host), host, _RETURN, _check(host, component), component)


def shorten_certificates(twin: Twin, host: str, seconds: int) -> None:
    """Make the certificates of the API server, and of those that use it on *host*, valid for *seconds*.

    At most two minutes are waited for, so that the certificates have expired.
    """
    run_in_guest(_on(twin, host), host, _SHORTEN, "certificates", str(seconds), str(WAIT_SECONDS))


def _on(twin: Twin, host: str) -> Twin:
    require_power(twin, host)
    return twin


def _check(host: str, component: str) -> str:
    if component not in COMPONENTS:
        problem, expected = f"{component!r} is no component", f"one of {', '.join(COMPONENTS)}"
        raise DeclarationError(Diagnostic(f"{host}: component", problem, expected, "Name a component"))
    return component
