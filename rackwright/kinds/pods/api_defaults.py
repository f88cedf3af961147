"""The values that the API and its controllers add to objects of runs and servers. Any other value was added by hand.

Source: Kubernetes 1.37, API reference, and the tests at a real API server in tests/acceptance/test_hardening2_9.py.
"""

import re
from collections.abc import Iterator, Mapping

from rackwright.core.contract import Scalar

_ANY = re.compile(r"\[\d+\]")
_INDEX = re.compile(r"\[(\d+)\]")
_UID = re.compile(r"[0-9a-z-]{1,64}")
_ADDRESS = re.compile(r"[0-9a-f.:]{2,45}")
_TEXT = re.compile(r".{0,253}")
_Expected = Scalar | re.Pattern[str]

_PROBE: Mapping[str, _Expected] = {"successThreshold": 1, "timeoutSeconds": 1, "httpGet.scheme": "HTTP"}
_CONTAINER: Mapping[str, _Expected] = {
    "terminationMessagePath": "/dev/termination-log",
    "terminationMessagePolicy": "File",
    "ports[].protocol": "TCP",
    "env[].valueFrom.fieldRef.apiVersion": "v1",
    **{
        f"{probe}.{name}": value
        for probe in ("startupProbe", "readinessProbe", "livenessProbe")
        for name, value in _PROBE.items()
    },
}
_POD: Mapping[str, _Expected] = {
    "metadata.creationTimestamp": "null",
    "spec.dnsPolicy": "ClusterFirst",
    "spec.restartPolicy": "Always",
    "spec.schedulerName": "default-scheduler",
    **{
        f"spec.{sort}[].{name}": value
        for sort in ("containers", "initContainers")
        for name, value in _CONTAINER.items()
    },
}
_JOB: Mapping[str, _Expected] = {
    "podReplacementPolicy": "TerminatingOrFailed",
    "manualSelector": False,
    "selector.matchLabels.batch.kubernetes.io/controller-uid": _UID,
    **{f"template.metadata.labels.{prefix}controller-uid": _UID for prefix in ("batch.kubernetes.io/", "")},
    **{f"template.metadata.labels.{prefix}job-name": _TEXT for prefix in ("batch.kubernetes.io/", "")},
    **{f"template.{name}": value for name, value in _POD.items()},
}
_OF_KUEUE = re.compile(
    r"spec\.replicatedJobs\[\]\.template\.spec\.template\.metadata\.(labels|annotations)\.kueue\.x-k8s\.io/.+"
)
"""Path of the marks of Kueue, which it gives the pods of a run that it admits."""
DEFAULTS: Mapping[str, Mapping[str, _Expected]] = {
    "Job": {f"spec.{name}": value for name, value in _JOB.items()},
    "JobSet": {
        "spec.replicatedJobs[].groupName": "default",
        **{f"spec.replicatedJobs[].template.spec.{name}": value for name, value in _JOB.items()},
        "spec.replicatedJobs[].template.metadata.creationTimestamp": "null",
    },
    "Deployment": {f"spec.template.{name}": value for name, value in _POD.items()},
    "LeaderWorkerSet": {
        f"spec.leaderWorkerTemplate.{part}.{name}": value
        for part in ("leaderTemplate", "workerTemplate")
        for name, value in _POD.items()
    },
    "Service": {
        "spec.clusterIP": _ADDRESS,
        "spec.clusterIPs": _ADDRESS,
        "spec.internalTrafficPolicy": "Cluster",
        "spec.ipFamilies": re.compile("IPv[46]"),
        "spec.ipFamilyPolicy": "SingleStack",
        "spec.sessionAffinity": "None",
        "spec.type": "ClusterIP",
    },
    "PersistentVolume": {"spec.claimRef.uid": _UID, "spec.claimRef.resourceVersion": _UID},
    "PersistentVolumeClaim": {},
    "PodDisruptionBudget": {},
    "HorizontalPodAutoscaler": {},
}
"""Paths of values that a declaration leaves out, with the value or its form, by the kind of the object."""
_OWNED_BY_OTHERS = {"Deployment": ("spec.replicas",), "Job": ("spec.suspend",), "JobSet": ("spec.suspend",)}
"""Paths of values that a declaration leaves out where an autoscaler sets them, or the outcome of a run says them."""


def list_undeclared(kind: str, declared: Mapping[str, Scalar], found: Mapping[str, Scalar]) -> Iterator[str]:
    """Yield the paths of *found* that are not *declared*, and that neither the API nor a controller adds."""
    expected = DEFAULTS.get(kind, {})
    for path, value in found.items():
        if path in declared or value == "{}" or path in _OWNED_BY_OTHERS.get(kind, ()):
            continue
        if _is_of_a_further_item(path, declared):
            continue
        pattern = _ANY.sub("[]", path)
        if kind == "JobSet" and _OF_KUEUE.fullmatch(pattern):
            continue
        if pattern not in expected or not _is_expected(expected[pattern], value, declared, path):
            yield path


def _is_of_a_further_item(path: str, declared: Mapping[str, Scalar]) -> bool:
    """Return whether *path* is in a further item of a list, which the claim on the length of the list shows."""
    for index in _INDEX.finditer(path):
        length = declared.get(f"{path[: index.start()]}.length")
        if isinstance(length, int) and int(index[1]) >= length:
            return True
    return False


def _is_expected(expected: _Expected, value: Scalar, declared: Mapping[str, Scalar], path: str) -> bool:
    if isinstance(expected, re.Pattern):
        # a service without an address of its own has the text None in both fields
        texts = [str(each) for each in value] if isinstance(value, tuple) else [str(value)]
        if path == "spec.clusterIPs" and declared.get("spec.clusterIP") == "None":
            return texts == ["None"]
        return bool(texts) and all(expected.fullmatch(text) for text in texts)
    return type(value) is type(expected) and value == expected
