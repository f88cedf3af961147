"""No other account of a host reads the weights and the rows that its model server has."""

from tests.accept.harness import Log, check, need
from tests.accept.hedge import ACCOUNT, HOST, LIB, hedge

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


@check("hardening.12")
def models_and_rows_are_for_the_server_alone(log: Log) -> str:
    """On a converged host, and on one that a version before has left with everything readable."""
    with hedge(log) as lab:

        def closed(when: str) -> None:
            need(lab.ssh(HOST, READABLE).split() == ["0", "0"], f"{when}: another account reads what is below {LIB}")
            odd = [line for line in lab.ssh(HOST, MODES).splitlines() if "/models" in line or "/data" in line]
            need(not odd, f"{when}: {odd[:3]}")
            need(int(lab.ssh(HOST, SERVED)) > 0, f"{when}: its own account does not read it")

        closed("converged")
        lab.ssh(HOST, LOOSE)
        need(lab.ssh(HOST, READABLE).split()[0] != "0", "the host could not be left open")
        wanted = {(f"{HOST}/digits", f"directory:{LIB}")}
        need(wanted <= lab.audited(status=1), f"the audit says {lab.audited()}")
        lab.up()
        closed("after `up`")
        need(lab.status(status=0)["outcome"] == "ready", "it does not serve any more")
        return f"another account reads no file below {LIB}; a host left open is found by the audit and closed by `up`"
