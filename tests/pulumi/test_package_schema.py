"""The package schema, read and checked by the real pulumi."""

import json

import pytest

from rackwright.kinds.table import KINDS
from rackwright.provider.package_schema import package_schema
from tests.pulumi.conftest import Project

pytestmark = pytest.mark.pulumi


def test_pulumi_reads_the_schema_and_finds_no_error_in_it(tmp_path, environment):
    """
    Every property of every resource and type passes through Pulumi's own model of a schema.
    """
    project = Project(tmp_path, environment)

    read = project.pulumi("package", "get-schema", str(tmp_path / ".rackwright/bin/pulumi-resource-rackwright"))
    schema = json.loads(read.raw)
    (tmp_path / "schema.json").write_text(read.raw)
    checked = project.pulumi("schema", "check", "schema.json")

    own = package_schema(KINDS)
    assert {token: set(each["inputProperties"]) for token, each in schema["resources"].items()} == {
        token: set(each["inputProperties"]) for token, each in own["resources"].items()
    }
    assert schema["types"].keys() == own["types"].keys()
    assert (checked.status, checked.text.strip()) == (0, "")
