"""The objects that give teams their parts of a cluster."""

import pytest

from rackwright.program.platform_objects import Object, Team, objects

TEAMS = {
    "vision": Team(gpus=4, cpus=64, memory="512Gi", operators=("vision-operators",), viewers=("auditors",)),
    "speech": Team(gpus=0, cpus=8, memory="64Gi", pods=10),
}
OBJECTS = objects(TEAMS)


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
        }


def test_a_team_has_a_quota_and_defaults_with_which_its_pods_fit_into_it():
    """
    A quota refuses a pod that asks for nothing.
    """
    [quota] = found("ResourceQuota", "vision")
    [limits] = found("LimitRange", "vision")

    assert quota["spec"]["hard"] == {
        "requests.nvidia.com/gpu": "4",
        "pods": "100",
        "requests.cpu": "64",
        "limits.cpu": "64",
        "requests.memory": "512Gi",
        "limits.memory": "512Gi",
    }
    assert limits["spec"]["limits"][0].keys() == {"type", "default", "defaultRequest"}


@pytest.mark.parametrize("function", ["operator", "viewer"])
def test_nobody_of_a_team_reads_secrets_or_gives_rights(function):
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
