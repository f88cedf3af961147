"""The controllers that a cluster has beside those of Kubernetes: each of their objects is a claim."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from rackwright.core.contract import Absent, Claim, Command, Difference, Scope, Step, Value
from rackwright.facts.kubernetes import ClusterFacts
from rackwright.kinds.cluster.replace import REPLACE

SORT = "controllers"
"""Sort of the things whose properties are the objects of controllers."""
_READY_SECONDS = 300
_SET = (
    REPLACE
    + """\
set -eu
export KUBECONFIG=/etc/kubernetes/admin.conf
seconds=$1 name=$2 check=$3 namespaces=$4
shift 4
log=/run/rackwright-$name.log
file=/run/rackwright-$name.json
trap 'rm -f "$file"' EXIT
cd "/usr/share/kubernetes-$name"
kubectl apply --server-side --force-conflicts --field-manager=rackwright -f manifests.json
# a whole object takes the place of one that others have changed, so that nothing that was added stays
for object; do
  python3 - "$object" > "$file" <<'END'
import json, sys
for item in json.load(open("manifests.json"))["items"]:
    place = item["metadata"]
    if "/".join(filter(None, (place.get("namespace"), item["kind"], place["name"]))) == sys.argv[1]:
        print(json.dumps(item))
END
  replace "$file" --field-manager=rackwright
done
# a twin's container may have no controller of memory: Metrics Server has nothing to report there, and is never ready
if [ "$name" = metrics ] && ! grep -qsw memory /sys/fs/cgroup/cgroup.controllers &&
  [ ! -d /sys/fs/cgroup/memory ]; then
  echo "not waited for: the control groups of this host show no memory"
  exit
fi
for namespace in $namespaces; do
  kubectl --namespace "$namespace" rollout status deployment --selector "rackwright.local/part-of=$name" \
    --timeout="${seconds}s"
done
answers() {
  case $check in
    /*) kubectl get --raw "$check" ;;
    *) printf %s "$check" | kubectl create --dry-run=server -f - ;;
  esac
}
# the controllers register their certificates when they have started
tries=0
until answers >/dev/null 2>"$log"
do
  tries=$((tries + 1))
  [ "$tries" -lt 60 ] || { cat "$log"; exit 1; }
  sleep 2
done
rm -f "$log"
"""
)
"""Script that sets all objects of controllers, replaces the named ones, and waits until they answer."""


@dataclass(frozen=True, slots=True)
class Controllers:
    """Controllers that a cluster has together, and that `rackwright toolchain` packs together."""

    name: str
    """Name of the option of the cluster, such as ``queue``."""
    title: str
    namespaces: tuple[str, ...]
    shown_by: Scope
    """The part of a target that must be real to show that they are ready."""
    check: str
    """Path of the API that the controllers serve, or an object, as JSON, that the API accepts once they answer. The
    object is never made."""
    remedy: str

    @property
    def thing(self) -> str:
        return f"{SORT}:{self.name}"


QUEUE = Controllers(
    "queue",
    "Kueue and JobSet",
    ("kueue-system", "jobset-system"),
    "host",
    '{"apiVersion": "kueue.x-k8s.io/v1beta2", "kind": "ResourceFlavor", "metadata": {"name": "rackwright-check"},'
    ' "spec": {}}',
    "look at `kubectl get pods --namespace kueue-system` and at those of jobset-system; without both no job can be"
    " made",
)
GROUPS = Controllers(
    "groups",
    "LeaderWorkerSet",
    ("lws-system",),
    "host",
    '{"apiVersion": "leaderworkerset.x-k8s.io/v1", "kind": "LeaderWorkerSet",'
    ' "metadata": {"name": "rackwright-check", "namespace": "default"},'
    ' "spec": {"leaderWorkerTemplate": {"workerTemplate": {"spec": {"containers":'
    ' [{"name": "none", "image": "none"}]}}}}}',
    "look at `kubectl get pods --namespace lws-system`; without it no pod of a server over several hosts can be made",
)
METRICS = Controllers(
    "metrics",
    "Metrics Server",
    ("kube-system",),
    "kernel",
    "/apis/metrics.k8s.io/v1beta1/nodes",
    "look at `kubectl --namespace kube-system logs deployment/metrics-server`; without it no server is scaled",
)
ALL = {each.thing: each for each in (QUEUE, GROUPS, METRICS)}


@cache
def digests(controllers: Controllers) -> Mapping[str, str]:
    """Return the digest of each object of *controllers* by its name; `rackwright toolchain` writes the same."""
    path = Path(__file__).with_name(f"controllers_{controllers.name}.json")
    found: dict[str, str] = json.loads(path.read_text())
    return found


def claims(controllers: Controllers) -> Iterator[Claim]:
    """Yield the claim on *controllers*: each of their objects is as it was set, and all are ready."""
    yield Claim(
        controllers.thing, {"ready": True}, scope=controllers.shown_by, remedy=controllers.remedy, remedy_absent=""
    )
    yield Claim(controllers.thing, digests(controllers), remedy_absent="")


def observe(cluster: ClusterFacts, key: str, name: str) -> Value:
    """Return whether the controllers *key* are ready, or the digest of an object as it is.

    The names of the programs that set its fields are no part of it: the person who changes it chooses the name.
    """
    found = cluster.controllers(key)
    if found is None:
        return Absent()
    if name == "ready":
        return found.ready
    item = found.object(name)
    return Absent() if item is None else item.content


def steps(differences: Sequence[Difference]) -> Iterator[Step]:
    """Yield the steps that set the objects of the controllers of which one is known to differ."""
    for thing, each in ALL.items():
        known = [item for item in differences if item.thing == thing and not item.is_unknown]
        if not known:
            continue
        names = (item.name for item in known if item.name in digests(each) and not isinstance(item.actual, Absent))
        text = f"set the objects of {each.title} ({len(known)} differ), and wait until they answer"
        arguments = (str(_READY_SECONDS), each.name, each.check, " ".join(each.namespaces), *sorted(names))
        yield Command(text, ("sh", "-c", _SET, "sh", *arguments), timeout_seconds=3 * _READY_SECONDS)
