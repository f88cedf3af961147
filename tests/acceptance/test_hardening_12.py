"""No other account of a host reads the weights and the rows that its model server has."""

from tests.support.acceptance import line
from tests.support.expect import need
from tests.support.log import Log
from tests.support.tiny_server_lab import ACCOUNT, HOST, LIB, tiny_server_lab

READABLE = f"""
useradd --no-create-home curious 2> /dev/null || true
runuser -u curious -- find {LIB} -readable -type f 2> /dev/null | wc -l
runuser -u curious -- ls {LIB} 2> /dev/null | wc -l
"""
MODES = f"""
find {LIB} \\( -type f -o -type d \\) \\( -perm /007 -o -not -group {ACCOUNT} \\) -printf '%p %m %g\\n'
"""
LOOSE = f"chmod -R o=rX {LIB}; chgrp -R root {LIB}"
SERVED = f"runuser -u {ACCOUNT} -- sh -c 'cat {LIB}/current/model/model.onnx {LIB}/data/*.npz' | wc -c"


@line("hardening", 12)
def test_only_the_model_server_reads_its_models_and_rows(log: Log) -> str:
    """On a converged host, and on one that a version before has left with everything readable."""
    with tiny_server_lab(log) as lab:

        def closed(when: str) -> None:
            need(lab.ssh(HOST, READABLE).split() == ["0", "0"], f"{when}: another account reads what is below {LIB}")
            odd = [line for line in lab.ssh(HOST, MODES).splitlines() if "/models" in line or "/data" in line]
            need(not odd, f"{when}: {odd[:3]}")
            need(int(lab.ssh(HOST, SERVED)) > 0, f"{when}: its own account does not read it")

        closed("converged")
        lab.ssh(HOST, LOOSE)
        need(lab.ssh(HOST, READABLE).split()[0] != "0", "the host could not be left open")
        wanted = {(f"{HOST}/digits", f"directory:{LIB}")}
        need(wanted <= lab.audit_differences(status=1), f"the audit says {lab.audit_differences()}")
        lab.up()
        closed("after `up`")
        need(lab.status(status=0)["outcome"] == "ready", "it does not serve any more")
        return f"another account reads no file below {LIB}; a host left open is found by the audit and closed by `up`"
