"""Line 17: the settings that the shell of a store changes are differences, and the role removes them."""

import pytest

from rackwright.facts.probe import object_store
from tests.support.acceptance import line
from tests.support.expect import need
from tests.support.log import Log
from tests.support.store_shell import CHANGES, KEY, Store, make_bucket


@line("hardening2", 17)
def test_settings_of_the_stores_own_shell_are_differences_that_the_role_removes(log: Log) -> str:
    """Each command of the shell in turn, on the parts of a real store with the role's files and certificates."""
    directory = log.empty_directory()
    with pytest.MonkeyPatch.context() as patch, Store(directory) as store:
        patch.setattr(object_store, "CONFIGURATION", str(directory / "etc/seaweedfs"))
        make_bucket(store)
        need(not (found := store.differences()), f"a store as the role makes it differs: {found}")
        for name, commands in CHANGES.items():
            store.shell(*commands)
            need(bool(found := store.differences()), f"{name} is no difference")
            need(KEY not in repr(found), f"{name} shows a secret key")
            log(f"{name}: {found}")
            need(store.mend().startswith("changed"), f"the role does not remove {name}")
            need(not (found := store.differences()), f"after {name} was removed: {found}")
    return f"{len(CHANGES)} changes in the shell seen, and removed by the role"
