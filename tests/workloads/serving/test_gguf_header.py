"""The header of a GGUF file is checked before llama.cpp reads it."""

import struct
from pathlib import Path

import pytest

from tests.support.fuzz.gguf import header, string
from workloads.errors import UserError
from workloads.serving.gguf_header import check

KEY = string(b"general.architecture") + struct.pack("<I", 8) + string(b"llama")
ARRAY = string(b"tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, 2) + string(b"a") + string(b"b")
NUMBERS = string(b"tokenizer.ggml.scores") + struct.pack("<IIQ", 9, 6, 2) + bytes(8)


def tensor(*shape: int, offset: int = 0, dimensions: int | None = None) -> bytes:
    count = len(shape) if dimensions is None else dimensions
    return string(b"weight") + struct.pack(f"<I{len(shape)}QIQ", count, *shape, 0, offset)


def test_a_header_that_is_whole_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    for version in (2, 3):
        path.write_bytes(header(version, [KEY, ARRAY, NUMBERS], [tensor(2, 2)]) + bytes(16))
        check(path)


def test_the_context_of_the_model_is_that_of_its_architecture(tmp_path: Path) -> None:
    def number(name: bytes, form: str, kind: int, value: float) -> bytes:
        return string(name) + struct.pack(f"<I{form}", kind, value)

    path = tmp_path / "m.gguf"
    length, scaled = b"llama.context_length", b"llama.rope.scaling.original_context_length"
    for keys, expected in (
        ([KEY, number(length, "I", 4, 2048), ARRAY], 2048),
        ([KEY, number(length, "Q", 10, 1 << 33), number(scaled, "I", 4, 4096)], 1 << 33),
        ([KEY, number(scaled, "I", 4, 4096)], None),
        ([KEY, number(length, "f", 6, 2048.0)], None),
        ([KEY, number(length, "I", 4, 0)], None),
    ):
        path.write_bytes(header(3, keys, [tensor(2, 2)]) + bytes(16))
        assert check(path) == expected


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "does not begin with GGUF"),
        (b"GGML" + bytes(60), "does not begin with GGUF"),
        (header(1, [KEY], []), "has version 1, not 2 or 3"),
        (header(3, [], [], (1 << 63, 0)), "claims 9223372036854775808 tensors"),
        (header(3, [], [], (0, 1 << 40)), "claims 1099511627776 keys"),
        (header(3, [], [], (1 << 20, 0)), "the header ends after the end of the file"),
        (header(3, [string(b"a", 1 << 62)], []), "claims 4611686018427387904 bytes in a name"),
        (header(3, [string(b"\xff") + bytes(8)], []), "a name is not UTF-8"),
        (header(3, [string(b"a") + struct.pack("<I", 99)], []), "a value has the type 99"),
        (header(3, [string(b"a") + struct.pack("<IQ", 8, 1 << 62)], []), "the header ends after the end of the file"),
        (
            header(3, [string(b"a") + struct.pack("<IIQ", 9, 4, 1 << 22)], []),
            "the header ends after the end of the file",
        ),
        (header(3, [string(b"a") + struct.pack("<IIQ", 9, 4, 1 << 62)], []), "elements in an array"),
        (header(3, [string(b"a") + struct.pack("<IIQ", 9, 9, 1)], []), "an array of arrays"),
        (header(3, [], [tensor(1, dimensions=5)]), "a tensor has 5 dimensions"),
        (header(3, [], [tensor(1 << 40, 1 << 40)]), "a tensor has an impossible size"),
        (header(3, [], [tensor(0)]), "a tensor has an impossible size"),
        (header(3, [], [tensor(2, offset=1 << 62)]), "a tensor lies after the end of the file"),
    ],
)
def test_one_that_is_wrong_is_refused_with_the_reason(tmp_path: Path, content: bytes, expected: str) -> None:
    (tmp_path / "m.gguf").write_bytes(content)
    with pytest.raises(UserError, match=expected):
        check(tmp_path / "m.gguf")


def split(count: int) -> bytes:
    return string(b"split.count") + struct.pack("<IH", 2, count)


def test_a_file_of_several_is_refused_with_the_way_to_merge_them(tmp_path: Path) -> None:
    """
    Before, the first of them was published, and no server could load it.
    """
    path = tmp_path / "m-00001-of-00004.gguf"
    path.write_bytes(header(3, [KEY, split(4)], [tensor(2, 2)]) + bytes(16))
    with pytest.raises(UserError, match="the model is split into 4 files") as refused:
        check(path)
    assert "gguf-split --merge" in refused.value.diagnostic.help
    path.write_bytes(header(3, [KEY, split(1), KEY], [tensor(2, 2)]) + bytes(16))
    check(path)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No such file"):
        check(tmp_path / "m.gguf")
