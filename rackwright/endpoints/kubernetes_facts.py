"""The reading of a cluster by its API: the version, all nodes, and the objects of teams that the account may list.

The facts have the form that the probe reads on a control plane, so that the kind of a cluster knows one form.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Protocol
from urllib.parse import urlencode

from rackwright.facts.facts import FORMAT
from rackwright.facts.probe import kubernetes as probe

PAGE_ITEMS = 200
"""Objects in one answer: a node with the names of its images takes about 30 KiB."""
PAGES_MAX = 500
"""Answers to one list, after which the server is taken for one that never ends it."""
NODES = "/api/v1/nodes"
OBJECTS: Mapping[str, str] = {
    "Namespace": "/api/v1/namespaces",
    "PriorityClass": "/apis/scheduling.k8s.io/v1/priorityclasses",
    "ResourceQuota": "/api/v1/resourcequotas",
    "LimitRange": "/api/v1/limitranges",
    "NetworkPolicy": "/apis/networking.k8s.io/v1/networkpolicies",
    "Role": "/apis/rbac.authorization.k8s.io/v1/roles",
    "RoleBinding": "/apis/rbac.authorization.k8s.io/v1/rolebindings",
    "ValidatingAdmissionPolicy": "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies",
    "ValidatingAdmissionPolicyBinding": "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings",
    "PriorityLevelConfiguration": "/apis/flowcontrol.apiserver.k8s.io/v1/prioritylevelconfigurations",
    "FlowSchema": "/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas",
}
"""The lists of the objects that give teams rights and limits, by kind; the probe reads the same ones."""


class AnswerRefused(Exception):
    """An answer of the API that leaves one list unknown; the message says why."""


class Get(Protocol):
    """The function that asks the API."""

    def __call__(self, target: str) -> Any:
        """Return the content of the answer about the path and query *target*.

        Raises:
            AnswerRefused: The API refuses this question, or its answer cannot be used.
        """
        ...


def read(get: Get) -> dict[str, Any]:
    """Return the raw facts of a cluster. A list that the account may not read is unknown, and never empty."""
    return {
        "format": FORMAT,
        "taken_at": time.time(),
        "kubernetes_cluster": {
            "version": _attempt(lambda: str(get("/version")["gitVersion"])),
            "nodes": _attempt(lambda: probe.states(_items(get, NODES))),
            "objects": _objects(get),
            "admission": {"unknown": "the account of the token does not read the pods of the system"},
        },
    }


def _objects(get: Get) -> dict[str, Any]:
    """Return the contents of all objects of teams by name; a kind that was not listed is unknown under its name."""
    found: dict[str, Any] = {}
    for kind, path in OBJECTS.items():
        contents = _attempt(partial(_contents, get, path, kind))
        found |= {kind: contents} if contents.keys() == {"unknown"} else contents
    return dict(sorted(found.items()))


def _contents(get: Get, path: str, kind: str) -> dict[str, Any]:
    return probe.contents(_items(get, path, kind))


def _items(get: Get, path: str, kind: str = "") -> Iterator[dict[str, Any]]:
    """Yield all objects of the list at *path*, page by page. The items of a list do not name their kind."""
    start = ""
    names: set[tuple[str, str]] = set()
    for _ in range(PAGES_MAX):
        query = {"limit": str(PAGE_ITEMS), **({"continue": start} if start else {})}
        page = get(f"{path}?{urlencode(query)}")
        for item in page["items"] or ():
            name = (str(item["metadata"].get("namespace", "")), str(item["metadata"]["name"]))
            if name in names:
                raise AnswerRefused("the list names an object twice")
            names.add(name)
            yield {**item, "kind": kind}
        start = page["metadata"].get("continue") or ""
        if not start:
            return
    raise AnswerRefused(f"the list has more than {PAGES_MAX} pages of {PAGE_ITEMS} objects")


def _attempt(convert: Callable[[], Any]) -> Any:
    """Return the result of *convert*, or ``{"unknown": reason}``."""
    try:
        return convert()
    except OSError:  # a wrong certificate is a ValueError too, and says nothing about the form of an answer
        raise
    except AnswerRefused as reason:
        return {"unknown": str(reason)}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        return {"unknown": f"the answer has another form than the API of Kubernetes: {error!r}"}
