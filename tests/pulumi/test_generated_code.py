"""Code from the package schema: SDKs of two languages, and the program of an imported resource."""

import pytest

from tests.pulumi.test_plugin import project
from tests.support.recorded_hosts import HOST, recorded

__all__ = ["project"]
pytestmark = pytest.mark.pulumi
PROVIDER = ".rackwright/bin/pulumi-resource-rackwright"
MEMBERS = {
    "python/pulumi_rackwright/storage/tier.py": "members: pulumi.Input[Sequence[pulumi.Input['_root_inputs.DriveArgs']",
    "nodejs/storage/tier.ts": "members: pulumi.Input<pulumi.Input<inputs.DriveArgs>[]>;",
}
"""A typed argument in a file of each SDK."""


@pytest.mark.parametrize("path", MEMBERS)
def test_an_sdk_has_typed_arguments(project, path):
    language, _, file = path.partition("/")

    done = project.pulumi("package", "gen-sdk", PROVIDER, "--language", language, "--out", "sdks")

    assert done.status == 0, done.text
    assert MEMBERS[path] in (project.directory / "sdks" / language / file).read_text()


@pytest.mark.parametrize(
    ("runtime", "lines"),
    [
        ("python", ["import pulumi_rackwright as rackwright", 'gpu_01_hot = rackwright.storage.Tier("gpu-01/hot",']),
        (
            "nodejs",
            ['import * as rackwright from "@pulumi/rackwright";', 'new rackwright.storage.Tier("gpu-01/hot", {'],
        ),
    ],
)
def test_an_import_prints_the_program_that_declares_the_resource(project, runtime, lines):
    file = project.directory / "Pulumi.yaml"
    file.write_text(file.read_text().replace("name: python", f"name: {runtime}"))
    project.host.set_facts(recorded(HOST))

    done = project.pulumi("import", "rackwright:storage:Tier", "gpu-01/hot", "gpu-01/hot", "--yes", "--skip-preview")

    assert done.status == 0, done.text
    assert all(line in done.text for line in lines), done.text


def test_a_program_prints_through_both_language_hosts(project):
    (project.directory / "__main__.py").write_text("print('printed by the program')\n")

    assert "printed by the program" in project.pulumi("preview").text
