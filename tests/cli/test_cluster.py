"""Access to the API of a cluster: the kubeconfig of the command that gets it, and which cluster is meant."""

import base64
import stat
from dataclasses import replace

import pytest
import yaml

from rackwright.access.cluster import access_by_token, client_name, first_reachable, kubeconfig
from rackwright.cli.cluster import _api_access, _name
from rackwright.errors import ChangeRefused, Diagnostic, HostUnreachable, StepFailed
from tests.support.recorded_hosts import CLUSTERED, SHARED, STACK

CERTIFICATE = "-----BEGIN CERTIFICATE-----\nQUJD\n-----END CERTIFICATE-----\n"
KEY = "-----BEGIN RSA PRIVATE KEY-----\nREVG\n-----END RSA PRIVATE KEY-----\n"


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


TEXT = f"""\
apiVersion: v1
clusters:
- cluster:
    certificate-authority-data: {encoded(CERTIFICATE)}
    server: https://10.0.0.11:6443
  name: cluster
contexts: []
kind: Config
users:
- name: anna
  user:
    client-certificate-data: {encoded(CERTIFICATE * 2)}
    client-key-data: {encoded(KEY)}
"""


def test_the_api_is_asked_through_a_port_of_this_computer():
    """
    Its certificate names 127.0.0.1, so that the authority of the cluster is checked as ever.
    """
    content = yaml.safe_load(kubeconfig(TEXT.encode(), "cp-01", 40123))

    assert content["clusters"][0]["cluster"] == {
        "certificate-authority-data": encoded(CERTIFICATE),
        "server": "https://127.0.0.1:40123",
    }
    (user,) = content["users"]
    assert user["user"] == {"client-certificate-data": encoded(CERTIFICATE * 2), "client-key-data": encoded(KEY)}


@pytest.mark.parametrize(
    "more",
    [
        "    exec: {apiVersion: client.authentication.k8s.io/v1, command: /bin/sh, interactiveMode: Never}",
        "    tokenFile: /root/.ssh/id_ed25519",
        "    auth-provider: {name: oidc, config: {idp-certificate-authority: /etc/shadow}}",
        "    client-certificate: /root/.ssh/id_ed25519",
        "    impersonate: system:admin\nproxy-url: http://192.0.2.1",
        "- name: second\n  user: {token: x}",
    ],
    ids=["exec", "tokenFile", "auth-provider", "client-certificate", "impersonate", "second"],
)
def test_nothing_else_of_the_host_reaches_kubectl(more):
    """
    kubectl starts programs that a kubeconfig names, and sends files to the address that it has.
    """
    assert kubeconfig(f"{TEXT}{more}\n".encode(), "cp-01", 1) == kubeconfig(TEXT.encode(), "cp-01", 1)


@pytest.mark.parametrize(
    "answer",
    [
        "", "{", "[1]", "a: 1", "\xff",
        TEXT.replace("client-key-data", "client-key"),
        TEXT.replace(encoded(KEY), "QQ=="),
        TEXT.replace(encoded(KEY), encoded(KEY + "x")),
        TEXT.replace(encoded(CERTIFICATE), "!" * 8),
        TEXT + f"    client-key-data: {encoded(KEY)}\n",
        " " * (64 << 10) + TEXT,
    ],
)  # fmt: skip
def test_an_answer_without_the_three_values_is_refused(answer):
    with pytest.raises(StepFailed, match=r"the kubeconfig of the host has no valid \S+-data"):
        kubeconfig(answer.encode("latin-1"), "cp-01", 1)


def test_the_name_of_the_client_fits_into_a_certificate(monkeypatch):
    """
    A common name has 64 characters at most.
    """
    monkeypatch.setattr("socket.gethostname", lambda: "h" * 80)
    monkeypatch.setattr("getpass.getuser", lambda: "anna")

    assert client_name() == ("rackwright:anna@" + "h" * 80)[:64]


def test_the_only_cluster_needs_no_name():
    """
    Its name is no error either.
    """
    assert _name(CLUSTERED.fleet, None, "fleet.yaml") == "main"
    assert _name(CLUSTERED.fleet, "main", "fleet.yaml") == "main"


@pytest.mark.parametrize(
    ("fleet", "name", "expected"),
    [(CLUSTERED.fleet, "mein", "clusters: main"), (STACK.fleet, None, "clusters: none")],
    ids=["another name", "no cluster"],
)
def test_without_such_a_cluster_the_command_is_refused(fleet, name, expected):
    """
    The message has the names that there are.
    """
    with pytest.raises(ChangeRefused) as caught:
        _name(fleet, name, "fleet.yaml")

    assert caught.value.diagnostic.expected == expected


class FewHosts:
    """Hosts of which only *up* answer."""

    def __init__(self, *up: str) -> None:
        self.up = up

    def connection(self, host: str) -> None:
        if host not in self.up:
            raise HostUnreachable(Diagnostic(host, "no answer"))


def test_another_control_plane_is_asked_if_the_first_one_is_lost():
    """
    If none answers, the error names the first.
    """
    planes = ("beech", "holly", "larch")

    assert first_reachable(FewHosts("holly", "larch"), planes) == "holly"
    with pytest.raises(HostUnreachable) as caught:
        first_reachable(FewHosts(), planes)
    assert caught.value.diagnostic.where == "beech"


TOKEN = "token-of-an-account-that-reads"


def test_a_cluster_of_others_is_reached_by_its_token_in_a_private_file():
    """
    The file ends with the command. The authority is that of the declaration, and no other one.
    """
    api = SHARED.cluster_apis["shared"].model_copy(update={"ca": "-----BEGIN CERTIFICATE-----"})
    with access_by_token("shared", api, TOKEN) as path:
        content = yaml.safe_load(path.read_text())
        modes = [stat.S_IMODE(each.stat().st_mode) for each in (path, path.parent)]

    assert not path.exists()
    assert modes == [0o600, 0o700]
    assert content["clusters"] == [
        {
            "name": "shared",
            "cluster": {
                "server": "https://shared.example:6443",
                "certificate-authority-data": "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0t",
            },
        }
    ]
    assert content["users"] == [{"name": "rackwright", "user": {"token": TOKEN}}]
    [context] = content["contexts"]
    assert (content["current-context"], context["context"]) == ("shared", {"cluster": "shared", "user": "rackwright"})


def test_access_names_the_endpoint_and_needs_the_value_of_the_token():
    """
    The endpoint is what the operations log has; on a twin the cluster of others is left alone.
    """
    stack = SHARED.with_secrets({"shared_token": TOKEN})
    with _api_access(stack, "shared") as (source, access), access as path:
        assert source == "kubernetes:shared"
        assert TOKEN in path.read_text()
    with pytest.raises(ChangeRefused, match="the twin lab has no part in this cluster"):
        _api_access(replace(stack, twin="lab"), "shared").__enter__()
