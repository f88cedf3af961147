"""The fields that an operator of a team may set, with the verdict on each, beside those of the API's types."""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import yaml

from tests.support.api_requests import ApiRequests
from tests.support.log import ROOT

LIST = ROOT / "tests/support/team_fields.yaml"
RECORDED = ROOT / "tests/support/team_fields.json"
"""Fields of the types of the pinned version, as its OpenAPI description names them."""
VERDICTS = ("harmless", "policy", "pod-security", "quota", "rights", "cluster")
"""harmless: within its own namespace; cluster: another part of the cluster decides, which the reason names."""
DOCUMENTS = ("api/v1", "apis/apps/v1", "apis/batch/v1", "apis/autoscaling/v2", "apis/policy/v1")
ROOTS = (
    *("core.v1.PodSpec", "core.v1.ServiceSpec", "core.v1.PersistentVolumeClaimSpec", "core.v1.ConfigMap"),
    *("batch.v1.JobSpec", "batch.v1.CronJobSpec", "meta.v1.ObjectMeta", "policy.v1.PodDisruptionBudgetSpec"),
    *("apps.v1.DeploymentSpec", "apps.v1.ReplicaSetSpec", "apps.v1.StatefulSetSpec"),
    "autoscaling.v2.HorizontalPodAutoscalerSpec",
)
"""Types of all objects that the role of operators may make."""
JOB_SET = "jobset."
"""Beginning of the names of the types of job sets."""
_PREFIXES = ("io.k8s.api.", "io.k8s.apimachinery.pkg.apis.")


def judged() -> Mapping[str, Mapping[str, str]]:
    """Return the verdict on each field by its name, such as ``core.v1.PodSpec.nodeName``."""
    return {
        f"{sort}.{field}": {key: each[key] for key in ("verdict", "reason")}
        for sort, entries in yaml.safe_load(LIST.read_text())["types"].items()
        for each in entries
        for field in each["fields"]
    }


def recorded() -> Mapping[str, Any]:
    """Return the version and the fields that were recorded."""
    found: Mapping[str, Any] = json.loads(RECORDED.read_text())
    return found


def fields_of_server(requests: ApiRequests) -> set[str]:
    """Return the fields of the types that an API describes itself."""
    schemas: dict[str, Any] = {}
    for name in DOCUMENTS:
        status, answer = requests.ask("GET", f"/openapi/v3/{name}")
        assert status == 200, answer
        schemas |= answer["components"]["schemas"]
    return set(fields(schemas))


def of_kubernetes(names: Iterable[str]) -> set[str]:
    """Return the names of fields without those of job sets, which an API has with Kueue alone."""
    return {name for name in names if not name.startswith(JOB_SET)}


def fields_of_job_set(definition: Mapping[str, Any]) -> set[str]:
    """Return the fields of a CustomResourceDefinition of job sets; templates have the types of Kubernetes."""
    found = set[str]()
    for version in definition["spec"]["versions"]:
        spec = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
        found |= {*_nested(spec, f"{JOB_SET}JobSetSpec")}
    return found


def _nested(schema: Mapping[str, Any], name: str) -> Iterator[str]:
    for field, each in schema.get("properties", {}).items():
        yield f"{name}.{field}"
        if field not in ("template", "templates"):
            yield from _nested(each.get("items", each), f"{name}.{field}")


def fields(schemas: Mapping[str, Any]) -> Iterator[str]:
    """Yield each field of the types of ROOTS, and of all types in them."""
    by_name = {_short(name): schema for name, schema in schemas.items()}
    seen, left = set[str](), [*ROOTS]
    while left:
        name = left.pop()
        if name in seen:
            continue
        seen.add(name)
        for field, schema in by_name[name].get("properties", {}).items():
            yield f"{name}.{field}"
            left += _references(schema)


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, each in value.items():
            if key == "$ref":
                yield _short(each.rpartition("/")[2])
            else:
                yield from _references(each)
    elif isinstance(value, list):
        for each in value:
            yield from _references(each)


def _short(name: str) -> str:
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    return name
