from collections.abc import Iterator

import pytest

from tests.support.provider_rig import Rig, rig


@pytest.fixture(name="rig")
def _rig() -> Iterator[Rig]:
    with rig() as made:
        yield made
