"""Line 6: specs of Kubernetes' own conformance tests pass on a cluster of the twin."""

import subprocess
from pathlib import Path

from rackwright.toolchain import conformance
from tests.support.acceptance import line
from tests.support.conformance import FEWEST, SOURCE, focus, left_out, report, specs
from tests.support.expect import eventually, need
from tests.support.kubernetes import HOSTS, NODES, cluster, ready_nodes
from tests.support.lab import Lab
from tests.support.log import Log

IMPORT = "ctr --namespace k8s.io images import /root/images.tar && rm /root/images.tar"
LIST = "ctr --namespace k8s.io images list | awk 'NR > 1 {print $1, $3}'"


@line("kubernetes", 6)
def test_specs_of_the_upstream_conformance_tests_pass(log: Log) -> str:
    """The program and the images of its pods are built from Go modules and Debian packages; nodes reach no registry."""
    with cluster(log, tools=("kubernetes", "kubernetes-conformance")) as lab:
        lab.up()
        eventually(lambda: ready_nodes(lab) == dict.fromkeys(HOSTS, True), "all nodes are ready", 300)
        built = conformance.ensure(log.write)
        log("images of the pods")
        for node in NODES:
            import_images(lab, node, built)
        log(f"running {len(specs())} specs")
        began = log.seconds
        done = run_specs(lab, built, log.directory / "report.json")
        seconds = log.seconds - began
    result = report(log.directory / "report.json", specs())
    for name, failure in result.failed.items():
        log(f"failed: {name}: {failure}")
    for name in result.skipped:
        log(f"not run: {name}")
    counts = f"{len(result.passed)} passed, {len(result.failed)} failed, {len(result.skipped)} skipped"
    need(not result.failed and not result.skipped, f"{counts}: {sorted([*result.failed, *result.skipped])}")
    need(done.returncode == 0, f"{conformance.PROGRAM} ended with {done.returncode}")
    need(len(result.passed) >= FEWEST, f"{SOURCE} has {len(result.passed)} specs")
    unable = sum(map(len, left_out().values()))
    return f"{counts} in {seconds:.0f} s; {unable} more need images that are not there"


def import_images(lab: Lab, node: str, built: Path) -> None:
    """Import the images of the pods into containerd of *node*, and require their digests."""
    with (built / conformance.ARCHIVE).open("rb") as archive:
        argv = lab.twin.ssh(node, "sudo -n sh -c 'cat > /root/images.tar'")
        subprocess.run(argv, stdin=archive, check=True, capture_output=True)
    lab.ssh(node, IMPORT)
    present = dict(row.split() for row in lab.ssh(node, LIST).splitlines())
    wanted = conformance.read_digests(built)
    need(wanted.items() <= present.items(), f"{node} has {present}, wanted {wanted}")


def run_specs(lab: Lab, built: Path, path: Path) -> subprocess.CompletedProcess[str]:
    """Run the named specs from this computer, and write the report of Ginkgo to *path*."""
    options = ("--provider=skeleton", "--dump-logs-on-failure=false", "--ginkgo.no-color", "--ginkgo.timeout=2h")
    chosen = (f"--ginkgo.focus={focus(specs())}", f"--ginkgo.json-report={path}")
    return lab.rackwright("cluster", "exec", "cluster", "--", str(built / conformance.PROGRAM), *options, *chosen)
