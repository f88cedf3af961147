"""What the tests of erasing share: a certificate, keys, and facts of a host with drives that nobody uses."""

from pathlib import Path

import pytest

from tests.support.erasure import new_key


@pytest.fixture
def key(tmp_path: Path) -> Path:
    """A key of ada's, whom tmp_path/signers allows to sign."""
    path = tmp_path / "ada"
    (tmp_path / "signers").write_text(f"ada@example.org {new_key(path)}\n")
    return path
