"""Line 3: a server whose number of pods follows its load, at the API of Kubernetes with its own autoscaler.

The API has no nodes. The test reports pods as ready in the place of a kubelet, and a stand-in of Metrics Server reports
the use of their processors.
"""

from unittest.mock import patch

from rackwright.core import diff as comparison
from rackwright.facts.facts import Facts
from rackwright.facts.probe import kubernetes as probe
from rackwright.kinds.cluster import controllers
from rackwright.kinds.cluster.team import TeamPart
from rackwright.kinds.cluster.team import objects as team_objects
from rackwright.kinds.pods import PodsKind
from rackwright.kinds.pods.spec import AutoscalePart
from rackwright.schema.cluster import Team
from rackwright.schema.units import Size
from rackwright.toolchain import kubernetes_controllers
from rackwright.toolchain.kubernetes_controllers import METRICS, manifests
from tests.support.acceptance import line
from tests.support.api_tier import ApiTier, api_tier, kubelet
from tests.support.expect import eventually, need
from tests.support.log import Log
from tests.support.metrics_api import metrics_api
from tests.support.pod_workloads import IDENTITY, REPOSITORY, SERVER, SERVING, made, spec_of

TEAM = TeamPart(name="vision", declared=Team(cpus=64, memory=Size("64GiB")), cohort=None)
NAMESPACE = f"--namespace={TEAM.name}"
SCALED = SERVING.model_copy(
    update={
        "autoscale": AutoscalePart(max=3, cpu_percent=50),
        "server": SERVER.model_copy(update={"rows": None}),
    }
)
BUSY_MILLICORES = 900
"""Use of a pod that asks for one processor, above the declared share."""
SECONDS = 180


@line("kubernetes", 3, part="autoscale")
def test_a_server_has_as_many_pods_as_its_load_needs(log: Log) -> str:
    """Busy pods get others beside them, up to the largest number, which is no difference and which a rollout keeps."""
    built = kubernetes_controllers.ensure_programs(METRICS, log)
    items = kubernetes_controllers.read_objects(METRICS, built)
    need(manifests.digests(items) == controllers.digests(controllers.METRICS), "the claims have other digests")
    with api_tier(log, log.empty_directory()) as tier:
        tier.set(*items)
        tier.manifests = {probe.name_of(item): item for item in items}
        need(not (paths := tier.changed_controllers(METRICS.name)), f"of Metrics Server differ {paths}")
        tier.set(*team_objects((TEAM,)).values())
        with metrics_api(tier, TEAM.name) as metrics, kubelet(tier, TEAM.name, f"models/{SERVER.version}"):
            log("rolling out")
            need(tier.roll_out(made(SCALED).values(), SECONDS) == 0, "the pods do not get ready")
            need((found := _count(tier)) == SCALED.count, f"the first rollout made {found} pods")
            need(not (paths := _differences(tier)), f"after the rollout differ {paths}")
            log("more load")
            metrics.millicores = BUSY_MILLICORES
            eventually(lambda: _count(tier) == 3, "there are three pods", SECONDS)
            eventually(lambda: not _differences(tier), "all pods are ready", SECONDS)
            log("rolling out again")
            need(tier.roll_out(made(SCALED).values(), SECONDS) == 0, "the pods do not get ready again")
            need((found := _count(tier)) == 3, f"a rollout changed the number of pods to {found}")
            tier.ask("patch", "hpa", "digits", NAMESPACE, '--patch={"spec": {"maxReplicas": 9}}', "--type=merge")
            expected = "object:vision/HorizontalPodAutoscaler/digits.spec.maxReplicas"
            need(expected in (paths := _differences(tier)), f"an edit of the limit differs at {paths}")
    return (
        "two pods became three under load at an API without nodes, and a rollout kept them; an edited limit was found"
    )


def _count(tier: ApiTier) -> int:
    count: int = tier.read("deployment", "digits", NAMESPACE)["spec"]["replicas"]
    return count


def _differences(tier: ApiTier) -> list[str]:
    """Return the paths at which the API differs from the declaration, as audit prints them."""
    with patch.object(probe.API, "ask", tier.ask):
        cluster = {"workloads": probe.workloads(probe.api_groups())}
    facts = Facts({"identity": IDENTITY, "kubernetes_cluster": cluster})
    claims = PodsKind().claims(spec_of(SCALED), REPOSITORY)
    return [item.path for item in comparison.diff(claims, PodsKind().observe(claims, facts))]
