"""Files of a real control plane as kubeadm wrote them pass; no change of one by hand does."""

import base64
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from rackwright.facts.probe import kubeadm_files
from rackwright.facts.probe.generated_files import check_of, is_rendered
from rackwright.facts.probe.observe import ReadError
from rackwright.facts.probe.sources import System
from tests.support.fabricated_machine import FabricatedMachine

FILES: dict[str, str] = json.loads(Path(__file__).with_name("kubeadm_files.json").read_text())
"""Written by kubeadm 1.37 on a virtual host that is gone; keys are left out."""
CHECKED = sorted(path for path in FILES if check_of(path))
MANIFESTS = "/etc/kubernetes/manifests"
API, ETCD = f"{MANIFESTS}/kube-apiserver.yaml", f"{MANIFESTS}/etcd.yaml"
MANAGER, SCHEDULER = f"{MANIFESTS}/kube-controller-manager.yaml", f"{MANIFESTS}/kube-scheduler.yaml"


@pytest.fixture
def machine(tmp_path):
    machine = FabricatedMachine(tmp_path)
    for path, text in FILES.items():
        machine.write(path[1:], text)
    machine.write("proc/sys/kernel/hostname", "plane\n")
    return machine


def judged(machine: FabricatedMachine, path: str, text: str | None = None) -> str:
    """Return an empty text for a file that passes, or why it does not."""
    if text is not None:
        machine.write(path[1:], text)
    try:
        return "" if is_rendered(System(machine.top, lambda _: False), path) else "no reason"
    except (ReadError, KeyError, TypeError, AttributeError, ValueError) as reason:
        return str(reason) or "no reason"


@pytest.mark.parametrize("path", CHECKED)
def test_a_file_as_kubeadm_wrote_it_passes(machine, path):
    assert judged(machine, path) == ""


def test_all_files_of_a_control_plane_are_compared():
    assert len(CHECKED) == len(FILES) - 1 == 19


EDITS = [
    (API, "    - --anonymous-auth=true", "after", "--anonymous-auth=true is no flag"),
    (API, "    - --authorization-mode=AlwaysAllow", "in place of --authorization-mode", "authorization-mode"),
    (API, "    - --token-auth-file=/etc/x", "after", "token-auth-file"),
    (API, "    - --profiling=true", "in place of --profiling", "instead of false"),
    (API, "    - --insecure-port=8080", "after", "insecure-port"),
    (API, "", "in place of --audit-log-path", "it has no --audit-log-path"),
    (API, "", "in place of --encryption-provider-config", "it has no --encryption-provider-config"),
    (API, "", "in place of --client-ca-file", "it has no --client-ca-file"),
    (API, "    - --client-ca-file=/tmp/ca.crt", "in place of --client-ca-file", "client-ca-file"),
    (API, "    - --etcd-servers=https://203.0.113.9:2379", "in place of --etcd-servers", "etcd-servers"),
    (API, "    - --service-cluster-ip-range=10.0.0.0/8", "in place of --service-cluster-ip-range", "ip-range"),
    (API, "    - --allow-privileged=true", "after", "--allow-privileged=true"),
    (API, "    - --enable-admission-plugins=AlwaysAdmit", "in place of --enable-admission-plugins", "instead of"),
    (API, "    - sh -c id", "after", "argument sh -c id"),
    (API, "    - --audit-webhook-config-file=/etc/x", "after", "audit-webhook"),
    (ETCD, "    - --client-cert-auth=false", "in place of --client-cert-auth", "client-cert-auth"),
    (ETCD, "    - --listen-client-urls=http://0.0.0.0:2379", "in place of --listen-client-urls", "listen-client-urls"),
    (ETCD, "", "in place of --peer-client-cert-auth", "it has no --peer-client-cert-auth"),
    (MANAGER, "    - --bind-address=0.0.0.0", "in place of --bind-address", "bind-address"),
    (MANAGER, "", "in place of --use-service-account-credentials", "it has no"),
    (SCHEDULER, "    - --kubeconfig=/tmp/x.conf", "in place of --kubeconfig", "kubeconfig"),
]


@pytest.mark.parametrize(("path", "line", "place", "reason"), EDITS)
def test_another_argument_is_named(machine, path, line, place, reason):
    rows = FILES[path].split("\n")
    if place == "after":
        last = max(number for number, row in enumerate(rows) if row.startswith("    - --"))
        rows.insert(last + 1, line)
    else:
        flag = place.rpartition(" ")[2]
        rows = [line if row.startswith(f"    - {flag}=") else row for row in rows]
    text = "\n".join(row for row in rows if row)

    assert reason in judged(machine, path, f"{text}\n")


@pytest.mark.parametrize(
    ("path", "old", "new", "reason"),
    [
        (API, "image: registry.k8s.io/kube-apiserver:v1.37.2", "image: evil.example/kube-apiserver:v1.37.2", "image"),
        (
            API,
            "image: registry.k8s.io/kube-apiserver:v1.37.2",
            "image: registry.k8s.io/kube-apiserver:v1.36.0",
            "image",
        ),
        (ETCD, "image: registry.k8s.io/etcd:3.7.3-0", "image: registry.k8s.io/etcd:latest", "image"),
        (API, "- kube-apiserver\n", "- sh\n", "its command is not"),
        (API, "path: /etc/ssl/certs\n", "path: /\n", "hostPath /"),
        (API, "path: /etc/kubernetes/pki\n", "path: /root\n", "hostPath /root"),
        (ETCD, "path: /var/lib/etcd\n", "path: /tmp/etcd\n", "hostPath /tmp/etcd"),
        (API, "      name: k8s-certs\n      readOnly: true\n", "      name: k8s-certs\n", "it may write"),
        (API, "mountPath: /etc/ssl/certs", "mountPath: /usr/bin", "mountPath"),
        (API, "      type: RuntimeDefault", "      type: Unconfined", "seccompProfile.type is Unconfined"),
        (API, "  hostNetwork: true", "  hostNetwork: true\n  hostPID: true", "hostPID"),
        (
            API,
            "    name: kube-apiserver\n    ports",
            "    securityContext:\n      privileged: true\n    name: kube-apiserver\n    ports",
            "privileged",
        ),
        (API, "    imagePullPolicy: IfNotPresent", "    imagePullPolicy: Always", "imagePullPolicy"),
        (API, "spec:\n  containers:\n", "spec:\n  initContainers:\n  - image: x\n  containers:\n", "initContainers"),
        (API, "spec:\n  containers:\n", "spec:\n  containers:\n  - image: x\n    name: kube-apiserver\n", "containers"),
        (API, "  namespace: kube-system", "  namespace: default", "namespace"),
        (
            API,
            "    livenessProbe:\n",
            "    lifecycle:\n      postStart:\n        exec:\n          command:\n          - sh\n    livenessProbe:\n",
            "lifecycle",
        ),
        (
            API,
            "      httpGet:\n        host: 10.47.0.11\n",
            "      exec:\n        command:\n        - x\n      httpGet:\n        host: 10.47.0.11\n",
            "exec",
        ),
        (
            API,
            "    name: kube-apiserver\n",
            "    env:\n    - name: X\n      value: y\n    name: kube-apiserver\n",
            "env",
        ),
    ],
)
def test_another_value_of_a_static_pod_is_named(machine, path, old, new, reason):
    assert old in FILES[path]

    assert reason in judged(machine, path, FILES[path].replace(old, new, 1))


def test_a_static_pod_without_a_configuration_is_not_known(machine):
    (machine.root / kubeadm_files.SETTINGS[1:]).unlink()

    assert "to compare it with" in judged(machine, API)


def certificate(tmp_path: Path, subject: str, issuer: str = "/CN=kubernetes") -> str:
    """Return a certificate with these names, of an authority of its own."""
    for name, text in (("ca", issuer), ("own", subject)):
        argv = ["openssl", "req", "-newkey", "rsa:2048", "-nodes", "-subj", text, "-keyout", f"{name}.key"]
        argv += ["-x509", "-out", f"{name}.crt"] if name == "ca" else ["-out", f"{name}.csr"]
        subprocess.run(argv, cwd=tmp_path, check=True, capture_output=True)
    argv = ["openssl", "x509", "-req", "-in", "own.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-out", "own.crt"]
    subprocess.run([*argv, "-CAcreateserial"], cwd=tmp_path, check=True, capture_output=True)
    return (tmp_path / "own.crt").read_text()


@pytest.mark.parametrize(
    ("name", "subject", "issuer", "reason"),
    [
        ("apiserver-kubelet-client", "/O=system:masters/CN=kube-apiserver-kubelet-client", "/CN=kubernetes", ""),
        ("apiserver", "/CN=kube-apiserver", "/CN=kubernetes", ""),
        ("etcd/peer", "/CN=plane", "/CN=etcd-ca", ""),
        ("apiserver", "/O=system:masters/CN=kube-apiserver", "/CN=kubernetes", "system:masters"),
        ("apiserver", "/CN=eve", "/CN=kubernetes", "its name is eve"),
        ("apiserver", "/CN=kube-apiserver", "/CN=evil-ca", "its issuer is evil-ca"),
        ("front-proxy-client", "/CN=front-proxy-client", "/CN=kubernetes", "its issuer is kubernetes"),
        ("etcd/server", "/CN=other", "/CN=etcd-ca", "its name is other"),
        ("etcd/healthcheck-client", "/O=evil/CN=kube-etcd-healthcheck-client", "/CN=etcd-ca", "the group evil"),
        ("apiserver", "/OU=x/CN=kube-apiserver", "/CN=kubernetes", "other parts"),
    ],
)
def test_a_certificate_has_the_names_that_kubeadm_gives(machine, tmp_path, name, subject, issuer, reason):
    text = certificate(tmp_path, subject, issuer)
    found = judged(machine, f"/etc/kubernetes/pki/{name}.crt", text)

    assert (found == "") == (reason == "") and reason in found


def with_client(path: str, pem: str) -> str:
    data = base64.b64encode(pem.encode()).decode()
    return re.sub(r"(client-certificate-data: )\S+", rf"\g<1>{data}", FILES[path])


@pytest.mark.parametrize(
    ("name", "subject", "issuer", "reason"),
    [
        ("admin", "/O=system:masters/CN=kubernetes-admin", "/CN=kubernetes", ""),
        ("scheduler", "/O=system:masters/CN=system:kube-scheduler", "/CN=kubernetes", "system:masters"),
        ("controller-manager", "/CN=eve", "/CN=kubernetes", "its name is eve"),
        ("admin", "/O=evil/CN=kubernetes-admin", "/CN=kubernetes", "the group evil"),
        ("admin", "/O=system:masters/CN=kubernetes-admin", "/CN=evil", "its issuer is evil"),
    ],
)
def test_a_client_of_the_cluster_has_its_own_group(machine, tmp_path, name, subject, issuer, reason):
    path = f"/etc/kubernetes/{name}.conf"
    found = judged(machine, path, with_client(path, certificate(tmp_path, subject, issuer)))

    assert (found == "") == (reason == "") and reason in found


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (r"    client-key-data: .*", "    exec:\n      command: /tmp/x"),
        (r"    client-key-data: .*", "    client-key-data: QQ==\n    token: x"),
        (r"    server: .*", "    server: http://10.47.0.11:6443"),
        (r"    server: .*", "    server: https://10.47.0.11:6443\n    insecure-skip-tls-verify: true"),
        (r"    server: .*", "    server: https://10.47.0.11:6443\n    proxy-url: http://203.0.113.9"),
        (r"users:\n", "users:\n- name: eve\n  user:\n    token: x\n"),
    ],
)
def test_another_way_to_log_in_is_found(machine, old, new):
    path = "/etc/kubernetes/admin.conf"
    text = re.sub(old, new, FILES[path], count=1)
    assert text != FILES[path]

    assert judged(machine, path, text)


def test_another_authority_is_found(machine):
    other = base64.b64encode(FILES["/etc/kubernetes/pki/etcd/ca.crt"].encode()).decode()
    path = "/etc/kubernetes/kubelet.conf"
    admin = "/etc/kubernetes/admin.conf"
    changed = re.sub(r"(certificate-authority-data: )\S+", rf"\g<1>{other}", FILES[admin])

    assert "another authority" in judged(machine, admin, changed)
    text = FILES[path].replace("/var/lib/kubelet/pki/kubelet-client-current.pem", "/tmp/x.pem")
    assert "/tmp/x.pem" in judged(machine, path, text)


@pytest.mark.parametrize("pem", ["", "x", "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"])
def test_what_is_no_certificate_has_no_names(pem):
    with pytest.raises(ReadError):
        kubeadm_files.names_of(pem.encode())


def test_two_certificates_in_one_file_are_found(machine):
    path = "/etc/kubernetes/pki/ca.crt"
    both: Any = FILES[path] + FILES["/etc/kubernetes/pki/etcd/ca.crt"]

    assert judged(machine, path, both) == "it is not one certificate"
