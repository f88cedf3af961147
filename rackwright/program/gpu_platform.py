"""The Pulumi component of what teams get in a cluster of Kubernetes, by pulumi-kubernetes."""

from collections.abc import Mapping

import pulumi

from rackwright.program.platform_objects import Team, objects
from rackwright.provider.state_format import PLATFORM


class GpuPlatform(pulumi.ComponentResource):
    """Namespaces of teams with quotas, rules for their pods and networks, and rights for people; priority classes."""

    def __init__(self, name: str, teams: Mapping[str, Team], opts: pulumi.ResourceOptions | None = None) -> None:
        """
        Args:
            name: The logical name of the component.
            teams: The teams by the names of their namespaces.
        """
        from pulumi_kubernetes.yaml.v2 import ConfigGroup  # of the extra `kubernetes`: a rack alone does not need it

        super().__init__(PLATFORM, name, {}, opts)
        ConfigGroup(f"{name}-objects", objs=objects(teams), opts=pulumi.ResourceOptions(parent=self))
        self.register_outputs({"namespaces": list(teams)})
