"""Line 21, api: an API server that is older than its files is found, and `up` restarts it before the next secret."""

from typing import Any

from tests.support.acceptance import line
from tests.support.expect import need
from tests.support.kubernetes import KUBECTL, NODES, PLANE, cluster
from tests.support.lab import Lab
from tests.support.log import Log

SETTINGS = "/etc/rackwright/kubernetes"
READY = f"timeout 300 sh -c 'until {KUBECTL} get --raw=/readyz >/dev/null 2>&1; do sleep 1; done'"
API = "$(ctr --namespace k8s.io containers list --quiet 'labels.\"io.kubernetes.container.name\"==kube-apiserver')"
RESTART = f"""for each in {API}; do ctr --namespace k8s.io tasks kill --signal SIGKILL $each 2>/dev/null || true; done
systemctl restart kubelet; sleep 2; {READY}"""
"""Kill the API server, and start kubelet, which then starts it without a delay."""
ETCD = """ctr --namespace k8s.io tasks exec --exec-id x-$$ $(ctr --namespace k8s.io containers list --quiet \
'labels."io.kubernetes.container.name"==etcd' | while read each; do ctr --namespace k8s.io tasks list |
grep -q "^$each .*RUNNING" && echo $each; done | head -n 1) \
etcdctl --cacert /etc/kubernetes/pki/etcd/ca.crt --cert /etc/kubernetes/pki/etcd/server.crt \
--key /etc/kubernetes/pki/etcd/server.key get --print-value-only /registry/secrets/default/"""
CHANGES = {
    "encryption.yaml": "s/^      - secretbox:/      - identity: {}\\n      - secretbox:/; $d",
    "audit-policy.yaml": "s/level: Request$/level: None/",
    "authentication.yaml": "s#/livez#/apis#",
    "admission.yaml": "s/qps: 5/qps: 5000/",
}
"""The change of each file. The API server reads the changed file, and then the file gets its content back."""
SILENT = {
    "a restart of the API server": RESTART,
    "a restart of kubelet": f"systemctl restart kubelet; {READY}",
    "files that were read": f"cat {SETTINGS}/*.yaml > /dev/null",
    "a touched file, and a restart": f"touch {SETTINGS}/encryption.yaml; sleep 1; {RESTART}",
    "the same content, and a restart": f"cp -p {SETTINGS}/admission.yaml /root/kept; cat /root/kept > "
    f"{SETTINGS}/admission.yaml; sleep 1; {RESTART}",
    "a new secret": f"{KUBECTL} create secret generic quiet --from-literal=a=b",
}
"""Changes that must change no claim."""


def _one_host(fleet: Any) -> None:
    """Leave the control plane alone, without the objects of teams."""
    for name in NODES:
        del fleet["hosts"][name]
    del fleet["clusters"]


def _is_encrypted(lab: Lab, name: str) -> bool:
    """Make a secret, and return whether etcd has it encrypted."""
    value = f"PLAINTEXT-{name}"
    lab.ssh(PLANE, f"{KUBECTL} create secret generic {name} --from-literal=value={value}")
    stored = lab.ssh(PLANE, f"{ETCD}{name} | base64 --wrap=0; echo; {ETCD}{name} | grep -c {value} || true")
    need(len(stored) > len(value), f"etcd has no secret {name}: {stored[:200]}")
    return stored.splitlines()[-1] == "0"


@line("hardening2", 21, part="api")
def test_an_api_server_that_is_older_than_its_files_is_found_and_restarted(log: Log) -> str:
    with cluster(log, _one_host, hosts=(PLANE,)) as lab:
        log("up")
        lab.up()
        need(not lab.audit_differences(), "the converged host is not as declared")
        need(_is_encrypted(lab, "first"), "a secret of a new cluster is in plain text")
        for name, change in SILENT.items():
            log(name)
            lab.ssh(PLANE, change)
            found = [claim for _, claim in lab.audit_differences()]
            need(not found, f"{name}: the audit finds {found}")
        for name, change in CHANGES.items():
            log(f"the API server starts with another {name}")
            path, claim = f"{SETTINGS}/{name}", f"read:pod:kube-apiserver:{SETTINGS}/{name}"
            lab.ssh(PLANE, f"cp -a {path} /root/kept; sed -i '{change}' {path}\n{RESTART}")
            need(lab.ssh(PLANE, f"cmp {path} /root/kept", status=1), f"{name} has no other content")
            lab.ssh(PLANE, f"cat /root/kept > {path}")
            if name == "encryption.yaml":
                need(not _is_encrypted(lab, "between"), "the API server does not run with the other file")
            found = [each for _, each in lab.audit_differences()]
            need(found == [claim], f"{name}: the audit finds {found or 'nothing'}, not {claim} alone")
            lab.up()
            found = [each for _, each in lab.audit_differences()]
            need(not found, f"{name}: after up, {found} still differ")
            if name == "encryption.yaml":
                need(_is_encrypted(lab, "after"), "after up, a new secret is in plain text")
    return (
        f"{len(CHANGES)} files that the API server had read with another content: found, and read again by the same "
        f"up; a secret was in plain text before, and none after it; {len(SILENT)} changes silent"
    )
