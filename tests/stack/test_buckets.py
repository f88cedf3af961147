"""The users of an object store whose keys the fleet has."""

from pathlib import Path

import pytest

from rackwright.fleet.load import load_fleet
from rackwright.schema.object_store import Credentials
from rackwright.stack.buckets import store_users
from tests.support.log import ROOT
from tests.support.recorded_hosts import STACK

EXAMPLES = ("cold.yaml", "bank/bank.yaml", "hospital/hospital.yaml")


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_accounts_of_the_role_are_tried_without_those_that_manage_buckets(example):
    fleet = load_fleet(ROOT / "stacks" / Path(example), STACK.repository.roles)

    assert store_users(fleet, "archive") == {"trainer": ("trainer", "archive_trainer")}
    assert fleet.object_stores["archive"].order == "by_folder"


def test_the_users_of_a_provided_store_have_keys_of_their_own():
    fleet = load_fleet(ROOT / "stacks/cold.yaml", STACK.repository.roles)
    key = Credentials.model_validate({"access_key": "AKIA1", "secret_key": {"secret": "archive_auditor"}})
    store = fleet.object_stores["archive"].model_copy(update={"hosts": (), "users": {"auditor": key}})

    assert store_users(fleet.model_copy(update={"object_stores": {"archive": store}}), "archive") == {
        "auditor": ("AKIA1", "archive_auditor")
    }
