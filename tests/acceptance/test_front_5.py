"""Line 5: each defect that a trial as a new user found, by the tests that fail with it."""

import pytest

from tests.support.acceptance import line
from tests.support.log import Log
from tests.support.pytest_runs import run_tests

TESTS = {
    "wheel": ("tests/test_wheel.py",),
    "virtualenv": ("tests/pulumi/test_virtual_environment.py",),
    "mirrors": (
        "tests/hosts/test_steps.py::test_the_help_for_a_missing_package_is_a_source_of_it",
        "tests/twin/test_machine.py::test_changed_package_sources_need_new_disks",
    ),
    "twin-reset": ("tests/cli/test_twin_reset.py",),
    "role-values": (
        "tests/schema/test_formats.py",
        "tests/facts/test_system.py::test_a_link_that_leads_to_nothing_has_another_digest",
        "tests/roles/test_base.py::test_a_locale_that_glibc_has_to_make_is_claimed_to_exist",
    ),
    "questions": ("tests/pulumi/test_questions.py",),
    "short-secrets": (
        "tests/stack/test_secrets.py::test_a_secret_that_is_too_short_for_its_use_is_one_error",
        "tests/stack/test_secrets.py::test_a_secret_that_is_too_short_for_any_use_is_an_error_of_the_settings",
    ),
    "import": ("tests/pulumi/test_adopt.py", "tests/pulumi/test_package_schema.py"),
    "host-forget": ("tests/cli/test_host_forget.py",),
    "killed-pulumi": ("tests/cli/test_exit_status.py",),
    "other-providers": ("tests/pulumi/test_other_providers.py",),
    "mounts": ("tests/program/test_rack.py", "tests/pulumi/test_rack.py"),
    "discover": (
        "tests/cli/test_discover.py",
        "tests/facts/test_block.py::test_a_container_has_only_the_drives_of_its_own_dev",
    ),
    "role-schema": ("tests/fleet/test_json_schema.py",),
    "overview": ("tests/cli/test_stacks.py", "tests/cli/test_doctor.py", "tests/cli/test_plan.py"),
    "profiles": ("tests/fleet/test_profiles.py",),
}
"""The tests of each defect."""


@line("front", 5)
@pytest.mark.parametrize("defect", TESTS)
def test_a_defect_of_the_first_trial_is_gone(log: Log, defect: str) -> str:
    """Its tests pass, and none of them is skipped."""
    return run_tests(log, *TESTS[defect])
