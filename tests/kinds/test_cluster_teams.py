"""The objects that give teams their parts of a cluster."""

import json

import pytest

from rackwright.core import diff as comparison
from rackwright.core.contract import Command, Put
from rackwright.facts.facts import Facts
from rackwright.kinds.cluster.quantity import Object, quantity
from rackwright.kinds.cluster.team import TeamPart, content, objects
from rackwright.schema.cluster import Team
from rackwright.schema.units import Size
from tests.support.mutations import Raw
from tests.support.recorded_hosts import RESOURCES, STACK, recorded

VISION = Team(gpus=4, cpus=64, memory=Size("512GiB"), operators=("vision-operators",), viewers=("auditors",))
SPEECH = Team(cpus=8, memory=Size("64GB"), pods=10)
PARTS = (TeamPart(name="vision", declared=VISION), TeamPart(name="speech", declared=SPEECH))
OBJECTS = [*objects(PARTS).values()]
CLUSTER = RESOURCES["birch/cluster"]
SPEC = CLUSTER.spec.model_copy(update={"teams": PARTS})


def found(kind: str, namespace: str | None = None) -> list[Object]:
    return [each for each in OBJECTS if each["kind"] == kind and each["metadata"].get("namespace") == namespace]


def test_names_are_fixed_and_unique():
    """
    Pulumi would give an object without a name a random one, and a second object of a name would replace the first.
    """
    names = [(each["kind"], each["metadata"].get("namespace"), each["metadata"]["name"]) for each in OBJECTS]

    assert len(names) == len(set(names))
    assert [each["metadata"]["name"] for each in found("Namespace")] == ["vision", "speech"]


def test_pods_of_a_team_have_no_rights_on_their_host():
    """
    The standard `restricted` forbids privileged pods, paths of the host, and its network.
    """
    for namespace in found("Namespace"):
        assert namespace["metadata"]["labels"] == {
            "pod-security.kubernetes.io/enforce": "restricted",
            "pod-security.kubernetes.io/audit": "restricted",
            "pod-security.kubernetes.io/warn": "restricted",
            "rackwright.local/team": namespace["metadata"]["name"],
        }


def test_a_team_has_a_quota_and_defaults_with_which_its_pods_fit_into_it():
    """
    A quota refuses a pod that asks for nothing.
    """
    [quota] = found("ResourceQuota", "vision")
    [limits] = found("LimitRange", "vision")

    hard = quota["spec"]["hard"]
    assert {name: limit for name, limit in hard.items() if not name.startswith("count/")} == {
        "requests.nvidia.com/gpu": "4",
        "requests.amd.com/gpu": "4",
        "requests.habana.ai/gaudi": "4",
        "pods": "100",
        "requests.cpu": "64",
        "limits.cpu": "64",
        "requests.memory": "512Gi",
        "limits.memory": "512Gi",
        "requests.ephemeral-storage": "2000Gi",
        "limits.ephemeral-storage": "2000Gi",
        "services.nodeports": "0",
        "services.loadbalancers": "0",
    }
    assert limits["spec"]["limits"][0].keys() == {"type", "default", "defaultRequest"}


@pytest.mark.parametrize("function", ["operator", "viewer"])
def test_no_function_of_a_team_reads_secrets_or_gives_rights(function):
    """
    A viewer changes nothing.
    """
    [role] = [each for each in found("Role", "vision") if each["metadata"]["name"] == function]

    assert all("secrets" not in rule["resources"] and "*" not in rule["resources"] for rule in role["rules"])
    assert all("rbac.authorization.k8s.io" not in rule["apiGroups"] for rule in role["rules"])
    if function == "viewer":
        assert {verb for rule in role["rules"] for verb in rule["verbs"]} == {"get", "list", "watch"}


def test_only_groups_that_are_named_get_a_function():
    """
    The names are those in certificates or tokens.
    """
    assert {each["metadata"]["name"]: each["subjects"][0]["name"] for each in found("RoleBinding", "vision")} == {
        "operator": "vision-operators",
        "viewer": "auditors",
    }
    assert found("RoleBinding", "speech") == []


def test_pods_reach_their_own_team_and_dns_alone():
    """
    One policy denies all, in both directions; the others admit.
    """
    policies = {each["metadata"]["name"]: each["spec"] for each in found("NetworkPolicy", "vision")}

    assert policies["deny"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    assert policies["own-team"]["ingress"] == [{"from": [{"podSelector": {}}]}]
    assert [port["port"] for port in policies["dns"]["egress"][0]["ports"]] == [53, 53]


def test_a_training_makes_room_for_a_server():
    """
    A training never takes the place of another pod.
    """
    classes = {each["metadata"]["name"]: each for each in found("PriorityClass")}

    assert classes["serving"]["value"] > classes["training"]["value"]
    assert classes["training"]["preemptionPolicy"] == "Never"


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (64, "64"), (1000, "1k"), (64_000_000_000, "62500000Ki"), (512 << 30, "512Gi"), (1 << 40, "1Ti")],
)
def test_a_quantity_is_written_as_kubernetes_writes_it(number, text):
    """
    Another form of the same number would be a difference at each look.
    """
    assert quantity(number) == text


def made() -> Raw:
    """Return the facts of the control plane with all objects as they are declared."""
    raw = recorded("birch")
    contents = {name: content(item) for name, item in objects(PARTS, ("birch",)).items()}
    raw["kubernetes_cluster"]["objects"] = json.loads(json.dumps(contents))
    return raw


def differing(raw: Raw) -> list[str]:
    claims = CLUSTER.kind.claims(SPEC, STACK.repository)
    return [item.path for item in comparison.diff(claims, CLUSTER.kind.observe(claims, Facts(raw)))]


def planned(raw: Raw):
    claims = CLUSTER.kind.claims(SPEC, STACK.repository)
    differences = comparison.diff(claims, CLUSTER.kind.observe(claims, Facts(raw)))
    return CLUSTER.kind.plan(SPEC, differences, Facts(raw), STACK.repository)


def test_what_was_made_is_what_was_declared():
    """
    The other facts are those of a cluster without teams.
    """
    assert differing(made()) == []


@pytest.mark.parametrize(
    ("name", "change", "paths"),
    [
        ("vision/ResourceQuota/team", lambda item: item["spec"]["hard"].update(pods="1k"), ["spec.hard.pods"]),
        (
            "vision/ResourceQuota/team",
            lambda item: item["spec"]["hard"].update({"count/secrets": "5"}),
            ["fields"],
        ),
        ("vision/LimitRange/team", lambda item: item["spec"]["limits"].append({"type": "Pod"}), ["spec.limits"]),
        ("vision/Role/viewer", lambda item: item["rules"].append({"verbs": ["*"]}), ["rules"]),
        ("vision/RoleBinding/viewer", lambda item: item["subjects"].append({"kind": "User"}), ["subjects"]),
        ("vision/RoleBinding/viewer", lambda item: item["roleRef"].update(name="operator"), ["roleRef.name"]),
        ("vision/NetworkPolicy/deny", lambda item: item["spec"].update(ingress=[{}]), ["fields"]),
        ("vision/NetworkPolicy/deny", lambda item: item["spec"]["policyTypes"].pop(), ["spec.policyTypes"]),
        ("vision/NetworkPolicy/dns", lambda item: item["spec"]["egress"].append({}), ["spec.egress"]),
        (
            "Namespace/vision",
            lambda item: item["labels"].update({"pod-security.kubernetes.io/enforce": "privileged"}),
            ["labels.pod-security.kubernetes.io/enforce"],
        ),
        ("PriorityClass/training", lambda item: item.update(value=1_000_000), ["value"]),
    ],
)
def test_each_edit_by_hand_is_found_under_its_path_and_corrected(name, change, paths):
    """
    Additions to lists and mappings are found as well as other values; the whole object is set again.
    """
    raw = made()
    change(raw["kubernetes_cluster"]["objects"][name])

    assert differing(raw) == [f"object:{name}.{path}" for path in paths]
    namespaces, others, command = planned(raw).steps
    assert isinstance(namespaces, Put) and isinstance(others, Put) and isinstance(command, Command)
    assert command.text == f"set {name}"
    assert bool(namespaces.content) == name.startswith("Namespace/")
    assert bool(others.content) != bool(namespaces.content)


def test_an_undeclared_object_needs_a_person():
    """
    A binding gives rights: somebody made it on purpose.
    """
    raw = made()
    raw["kubernetes_cluster"]["objects"]["speech/RoleBinding/friend"] = {"roleRef": {}, "subjects": []}
    plan = planned(raw)

    assert (plan.steps, [item.path for item in plan.by_hand]) == ((), ["namespace:speech.undeclared"])
    assert "find out who made the object" in plan.by_hand[0].remedy


def test_a_deleted_object_is_made_again():
    """
    A namespace that is gone brings all of its objects back.
    """
    raw = made()
    kept = raw["kubernetes_cluster"]["objects"]
    raw["kubernetes_cluster"]["objects"] = {name: item for name, item in kept.items() if "speech" not in name}
    plan = planned(raw)

    assert plan.by_hand == ()
    assert plan.steps[-1].text.startswith("set Namespace/speech, speech/ResourceQuota/team, ")
