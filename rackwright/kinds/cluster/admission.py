"""The admission policies for namespaces of teams: what the API refuses in pods and services there.

Operators of a team choose every field of its pods, names and labels among them. The policies therefore exempt no name
and no label: an exemption goes by the groups of the account that asks. tests/support/team_fields.yaml judges each
field.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rackwright.kinds.cluster.quantity import GPUS, RESOURCES, Object
from rackwright.kinds.shared.pod_volumes import CLAIM_PATTERN, OUTPUT_PATTERN
from rackwright.schema.cluster import CONTROLLERS
from rackwright.schema.cluster_store import OBJECT_BYTES

TEAM_LABEL = "rackwright.local/team"
"""Label of the namespace of a team, which keeps it when the team is no longer declared."""
KINDS = ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")
ACCOUNT = 70000
"""User and group of the pods that rackwright makes; see kinds/pods/image.py."""
STOP_SECONDS = 3600
"""Longest time that a pod of an operator may take to stop. Runs and servers have the time that the fleet declares."""
_VERSION = "admissionregistration.k8s.io/v1"
_TRUSTED = (
    *("system:masters", "kubeadm:cluster-admins"),
    *(f"system:serviceaccounts:{name}" for name in ("kube-system", *CONTROLLERS)),
)
"""Groups of accounts that make rackwright's pods: administrators, and controllers, whose templates were checked."""
_IS_TRUSTED = f"request.userInfo.groups.exists(group, group in {list(_TRUSTED)})"
_NODE_STATES = ("not-ready", "unreachable", "memory-pressure")
"""Taints by which Kubernetes marks the state of a node, and which the API itself lets pods tolerate."""


@dataclass(frozen=True, slots=True)
class _Shape:
    """Resources that have pods or their templates at the same place."""

    name: str
    rules: Sequence[tuple[str, str, Sequence[str]]]
    """Groups of the API, their versions and their resources."""
    part: str
    """The part of an object whose change is checked, as an expression after `object`."""
    pods: str
    """Expression of the list of all pods."""


_SHAPES = (
    _Shape("pods", [("", "v1", ("pods", "pods/ephemeralcontainers"))], ".spec", "[object.spec]"),
    _Shape(
        "templates",
        [
            ("", "v1", ("replicationcontrollers",)),
            ("apps", "v1", ("daemonsets", "deployments", "replicasets", "statefulsets")),
            ("batch", "v1", ("jobs",)),
        ],
        ".spec.template",
        "[object.spec.template.spec]",
    ),
    _Shape(
        "cronjobs",
        [("batch", "v1", ("cronjobs",))],
        ".spec.jobTemplate",
        "[object.spec.jobTemplate.spec.template.spec]",
    ),
    _Shape(
        "jobsets",
        [("jobset.x-k8s.io", "v1alpha2", ("jobsets",))],
        ".spec.replicatedJobs",
        "object.spec.replicatedJobs.map(each, each.template.spec.template.spec)",
    ),
)
_CONTAINERS = "pod.containers + pod.?initContainers.orValue([]) + pod.?ephemeralContainers.orValue([])"
_OUR_VOLUMES = (
    "pod.?volumes.orValue([]).filter(volume, has(volume.persistentVolumeClaim)"
    f" && volume.persistentVolumeClaim.claimName.matches({json.dumps(CLAIM_PATTERN)}))"
)
_PRIORITY = "pod.?priorityClassName.orValue('')"


def objects(teams: Sequence[str], priority: int) -> Iterator[Object]:
    """Yield the policies of a cluster with *teams*, and their bindings to the namespaces of all teams.

    Args:
        priority: The highest priority that operators may give a pod.
    """
    for shape in _SHAPES:
        rules = [rule(*each) for each in shape.rules]
        changed = f"request.operation != 'UPDATE' || object{shape.part} != oldObject{shape.part}"
        variables = {"pods": shape.pods, "trusted": _IS_TRUSTED}
        checks = [
            (f"variables.pods.all(pod, {expression})", message) for expression, message in _pod_checks(teams, priority)
        ]
        yield from policy(f"rackwright-teams-{shape.name}", rules, checks, changed, variables)
    rules = [rule("", "v1", ("services",))]
    yield from policy("rackwright-teams-services", rules, _SERVICE_CHECKS, "true", {})
    # everybody but controllers and nodes: they write status, and copies of what was let in
    condition = f"!request.userInfo.groups.exists(group, group in {[*_TRUSTED, 'system:nodes']})"
    yield from policy("rackwright-teams-size", [rule("*", "*", ("*",))], [_SIZE_CHECK], condition, SIZE_VARIABLES)
    for name, resources, expression, message in _CLAIM_CHECKS:
        yield from policy(name, [rule(*resources)], [(expression, message)], "true", {"trusted": _IS_TRUSTED})


SIZE_VARIABLES = {"text": "'%s'.format([object])"}
"""The variable that `size_expression` needs."""
LONGER = "[<>&\\p{C}\\x{2028}\\x{2029}\\x{fffd}]|\\\\[abfvxuU]"
"""Characters that are longer in JSON as Go writes it than in the text of CEL, as themselves or with a backslash."""
LONGER_BYTES = 5
"""Most bytes that one of LONGER has more in JSON, such as the six of `\\u003c` for one."""


def size_expression(most: int) -> str:
    """Return what must hold for an object that has *most* bytes as JSON, or fewer."""
    # the first half is cheap, and keeps large objects away from the second
    return (
        f"bytes(variables.text).size() <= {most} && bytes(variables.text).size()"
        f" + {LONGER_BYTES} * variables.text.findAll({json.dumps(LONGER)}).size() <= {most}"
    )


_SIZE_CHECK = (
    size_expression(OBJECT_BYTES),
    f"an object of a team has at most {OBJECT_BYTES} bytes, in which < > & and control characters have"
    f" {LONGER_BYTES + 1}: put files on a volume, or into several objects",
)
"""The size of any object, by no list of its fields, of which each version of Kubernetes has others.

etcd has custom resources as JSON, and controllers copy templates of all kinds into JSON: Kueue into its workloads, and
Kubernetes into revisions of sets.
"""

_CLAIM_CHECKS = [
    (
        "rackwright-teams-claims",
        ("", "v1", ("persistentvolumeclaims",)),
        f"variables.trusted || !object.metadata.name.matches({json.dumps(CLAIM_PATTERN)})",
        "claims of rackwright's runs and servers, and their owners, are rackwright's: choose another name",
    ),
    (
        "rackwright-teams-statefulsets",
        ("apps", "v1", ("statefulsets",)),
        "object.spec.?volumeClaimTemplates.orValue([]).size() == 0",
        "volumeClaimTemplates are refused: a set chooses the names of its claims; mount claims that are there",
    ),
    (
        "rackwright-teams-jobset-claims",
        ("jobset.x-k8s.io", "v1alpha2", ("jobsets",)),
        "object.spec.?volumeClaimPolicies.orValue([]).size() == 0",
        "volumeClaimPolicies are refused: a set chooses the names of its claims; mount claims that are there",
    ),
]
"""Policies about the ways by which a claim comes to its name: policy, resources, expression, message."""

_SERVICE_CHECKS = [
    (
        "object.spec.?externalIPs.orValue([]).size() == 0",
        "externalIPs are refused in the namespace of a team: they lead other pods and nodes to it",
    ),
    (
        "!(object.spec.?type.orValue('ClusterIP') in ['NodePort', 'LoadBalancer'])",
        "services of a team have addresses inside of the cluster alone: their type is ClusterIP or ExternalName",
    ),
]


def _pod_checks(teams: Sequence[str], priority: int) -> Iterator[tuple[str, str]]:
    """Yield what must hold for each `pod`, as an expression of CEL, and the message for one that is refused."""
    yield (
        "pod.?volumes.orValue([]).all(volume, !has(volume.ephemeral))",
        "ephemeral volumes are refused: the pod names their claims; mount a claim of your own",
    )
    yield (
        f"variables.trusted || {_OUR_VOLUMES}.size() == 0",
        "claims of rackwright's runs and servers are for their own pods: mount a claim of your own",
    )
    yield (
        f"{_OUR_VOLUMES}.filter(volume, !volume.persistentVolumeClaim.claimName.matches({json.dumps(OUTPUT_PATTERN)}))"
        ".all(volume, volume.persistentVolumeClaim.?readOnly.orValue(false)"
        f" && ({_CONTAINERS}).all(container, container.?volumeMounts.orValue([]).all(mount,"
        " mount.name != volume.name || mount.?readOnly.orValue(false))))",
        "volumes of paths of the host are mounted with readOnly: true, in the volume and in each container",
    )
    yield (
        f"{_OUR_VOLUMES}.size() == 0 || (pod.?hostUsers.orValue(true) && !pod.?securityContext.?fsGroup.hasValue()"
        " && pod.?securityContext.?supplementalGroups.orValue([]).size() == 0"
        f" && pod.?securityContext.?runAsUser.orValue(0) == {ACCOUNT}"
        f" && pod.?securityContext.?runAsGroup.orValue(0) == {ACCOUNT}"
        f" && ({_CONTAINERS}).all(container, container.?securityContext.?runAsUser.orValue({ACCOUNT}) == {ACCOUNT}"
        f" && container.?securityContext.?runAsGroup.orValue({ACCOUNT}) == {ACCOUNT}))",
        f"a pod with volumes of paths of the host has the user and group {ACCOUNT}, no fsGroup, no other groups, and no"
        " users of its own",
    )
    yield (
        "(request.operation == 'UPDATE' && request.resource.resource == 'pods') || pod.?nodeName.orValue('') == ''",
        "nodeName is refused: the scheduler chooses the node; use nodeSelector or affinity",
    )
    yield (f"pod.?tolerations.orValue([]).all(toleration, {_toleration(teams)})", _TOLERATIONS)
    yield (
        f"!{_PRIORITY}.startsWith('system-') && ({_PRIORITY} != 'serving' || variables.trusted)"
        f" && (pod.?priority.orValue(0) <= {priority} || ({_PRIORITY} == 'serving' && variables.trusted))",
        "pods of a team have the priority class training or none; serving is for servers that rackwright makes",
    )
    kinds = ("podAffinity", "podAntiAffinity")
    required = (f"pod.?affinity.?{kind}.?requiredDuringSchedulingIgnoredDuringExecution.orValue([])" for kind in kinds)
    preferred = (
        f"pod.?affinity.?{kind}.?preferredDuringSchedulingIgnoredDuringExecution.orValue([])"
        ".map(each, each.podAffinityTerm)"
        for kind in kinds
    )
    yield (
        f"({' + '.join((*required, *preferred))}).all(term, !has(term.namespaceSelector)"
        " && term.?namespaces.orValue([]).all(name, name == request.namespace))",
        "affinity to pods of other namespaces is refused: it could keep all other pods away from the nodes",
    )
    lists = ("requests", "limits")
    names = " && ".join(f"each.?resources.?{kind}.orValue({{}}).all(name, name in {list(RESOURCES)})" for kind in lists)
    yield (
        f"variables.trusted || ([pod].all(each, {names}) && ({_CONTAINERS}).all(each, {names}))",
        f"pods of a team ask for {', '.join(RESOURCES)} alone: its quota has a limit for each of them",
    )
    yield (
        f"variables.trusted || pod.?terminationGracePeriodSeconds.orValue(30) <= {STOP_SECONDS}",
        f"pods stop within {STOP_SECONDS} seconds: until then neither a drain nor another pod gets their place",
    )


_TOLERATIONS = (
    "tolerations name the key and value of a taint that was declared for the team; those of control planes, of every"
    " taint, and of another team are refused"
)


def _toleration(teams: Sequence[str]) -> str:
    """Return what must hold for a `toleration`: it names a taint whole, and none of Kubernetes but states of nodes."""
    states = [f"node.kubernetes.io/{state}" for state in _NODE_STATES]
    reserved = r"^([a-z0-9.-]*\.)?(kubernetes|k8s)\.io/"
    return (
        f"toleration.?key.orValue('') in {states}"
        " || (toleration.?key.orValue('') != ''"
        f" && !toleration.key.matches({json.dumps(reserved)})"
        f" && (toleration.?operator.orValue('Equal') == 'Equal' || toleration.key in {list(GPUS)})"
        f" && (!(toleration.?value.orValue('') in {sorted(teams)}) || toleration.value == request.namespace))"
    )


def rule(
    group: str, version: str, resources: Sequence[str], operations: Sequence[str] = ("CREATE", "UPDATE")
) -> Object:
    """Return a rule that matches requests about *resources* of the API."""
    return {
        "apiGroups": [group],
        "apiVersions": [version],
        "operations": [*operations],
        "resources": list(resources),
        "scope": "*",
    }


def policy(
    name: str,
    rules: list[Object],
    checks: Sequence[tuple[str, str]],
    condition: str,
    variables: dict[str, str],
    everywhere: bool = False,
) -> Iterator[Object]:
    """Yield a policy and its binding, with all values that the API would add, so that both can be compared whole.

    Args:
        everywhere: Whether it holds in the whole cluster, and not in the namespaces of teams alone.
    """
    more: dict[str, Any] = {}
    if condition != "true":
        more["matchConditions"] = [{"name": "changed", "expression": condition}]
    if variables:
        more["variables"] = [{"name": key, "expression": text} for key, text in variables.items()]
    spec = {
        "failurePolicy": "Fail",
        "matchConstraints": {
            "matchPolicy": "Equivalent",
            "namespaceSelector": {},
            "objectSelector": {},
            "resourceRules": rules,
        },
        **more,
        "validations": [{"expression": expression, "message": message} for expression, message in checks],
    }
    yield {"apiVersion": _VERSION, "kind": KINDS[0], "metadata": {"name": name}, "spec": spec}
    selector: Object = {} if everywhere else {"matchExpressions": [{"key": TEAM_LABEL, "operator": "Exists"}]}
    bound = {"matchPolicy": "Equivalent", "namespaceSelector": selector, "objectSelector": {}}
    binding = {"policyName": name, "validationActions": ["Deny"], "matchResources": bound}
    yield {"apiVersion": _VERSION, "kind": KINDS[1], "metadata": {"name": name}, "spec": binding}


def is_our_claim(name: str) -> bool:
    """Return whether a claim of this *name* has a path of the host."""
    return re.match(CLAIM_PATTERN, name) is not None
