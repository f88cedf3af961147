from collections.abc import Iterator

import pytest

from tests.provider.rig import Rig, rig


@pytest.fixture(name="rig")
def _rig() -> Iterator[Rig]:
    with rig() as made:
        yield made
