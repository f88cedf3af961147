"""The search for leaks finds each of them, and nothing where there is none."""

import base64
import hashlib
from pathlib import Path

import pytest

from tests.support.leaks import forms, leaks

VALUE, WHOLE = "Tr0ub4dor&3-planted", "key=Tr0ub4dor&3-planted\n"
LEAKS = {
    "clear": VALUE.encode(),
    "hex": VALUE.encode().hex().upper().encode(),
    **{f"base64 after {n}": base64.b64encode(b"x" * n + VALUE.encode() + b"rest") for n in range(5)},
    **{
        f"{name} of it": hashlib.new(name, VALUE.encode()).hexdigest().encode() for name in ("md5", "sha512", "blake2b")
    },
    "a digest in base64": base64.b64encode(hashlib.sha256(VALUE.encode()).digest()),
    "a digest of the file": hashlib.blake2s(WHOLE.encode(), digest_size=16).hexdigest().encode(),
}


@pytest.mark.parametrize("leak", LEAKS.values(), ids=LEAKS)
def test_each_leak_is_found(leak: bytes, tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "state").write_bytes(b'{"outputs": "' + leak + b'"}')

    assert leaks(forms({"a": VALUE}, [WHOLE]), tmp_path)


def test_a_keyed_digest_is_no_leak(tmp_path: Path) -> None:
    (tmp_path / "state").write_text(hashlib.blake2s(WHOLE.encode(), key=b"salt", digest_size=16).hexdigest())

    assert leaks(forms({"a": VALUE}, [WHOLE]), tmp_path) == []
