"""Changed texts that know the places of their characters in the original."""

import random
import tracemalloc
from collections.abc import Iterator

import pytest

from rackwright.masking.fold import fold, fold_decoded
from rackwright.masking.text_map import TextMap

PARTS = ("a", "7", "%41", "%c3%bc", "&amp;", "\\u0041", " [at] ", "=\r\n", "%2541", "\u200b", "ﷺ", "½", "é", "😀", "\n")
BYTES_MAX = 20
"""Bytes of memory for each byte of a text; one object for each character took 86 to 900."""


def places(text_map: TextMap) -> list[tuple[int, int]]:
    return [text_map.original(index, index + 1) for index in range(len(text_map.text))]


def test_places_pass_through_several_rounds_of_changes() -> None:
    original = "ab%2541c"
    once = TextMap.whole(original, original).replace([(2, 5, "%")])
    twice = once.replace([(2, 5, "A")])

    assert (once.text, twice.text) == ("ab%41c", "abAc")
    assert places(once) == [(0, 1), (1, 2), (2, 5), (5, 6), (6, 7), (7, 8)]
    assert places(twice) == [(0, 1), (1, 2), (2, 7), (7, 8)]
    assert twice.original(1, 4) == (1, 8)


def test_what_is_left_out_and_what_becomes_several_characters_keeps_the_places_around_it() -> None:
    text_map = TextMap.whole("a-b½c", "a-b½c").replace([(1, 2, ""), (3, 4, "1/2")], str.upper)

    assert text_map.text == "AB1/2C"
    assert places(text_map) == [(0, 1), (2, 3), (3, 4), (3, 4), (3, 4), (4, 5)]


def simple(text: str, changes: list[tuple[int, int, str]]) -> Iterator[tuple[int, int, str]]:
    """Yield each character after *changes* with its place, one by one."""
    place = 0
    for start, end, new in [*changes, (len(text), len(text), "")]:
        yield from ((index, index + 1, text[index]) for index in range(place, start))
        yield from ((start, end, sign) for sign in new)
        place = end


@pytest.mark.parametrize("seed", range(20))
def test_any_changes_have_the_places_that_a_character_by_character_list_has(seed: int) -> None:
    chance = random.Random(seed)
    text = "".join(chance.choices("abcdef", k=chance.randrange(1, 40)))
    text_map, expected = TextMap.whole(text, text), [(index, index + 1) for index in range(len(text))]
    for _ in range(4):
        cuts = sorted(chance.sample(range(len(text_map.text) + 1), 2 * min(3, (len(text_map.text) + 1) // 2)))
        changes = [(s, e, chance.choice(["", "x", "yz"])) for s, e in zip(cuts[::2], cuts[1::2], strict=True)]
        signs = [*simple(text_map.text, changes)]
        expected = [(expected[start][0], expected[end - 1][1]) for start, end, _ in signs]
        text_map = text_map.replace(changes)
        assert text_map.text == "".join(sign for *_, sign in signs)
        assert places(text_map) == expected
        if not text_map.text:
            return


def test_each_character_of_a_decoded_text_stands_within_the_original() -> None:
    text = "".join(random.Random(0).choices(PARTS, k=400))
    for text_map in (fold(text), *fold_decoded(text)):
        found = places(text_map)
        assert all(0 <= start < end <= len(text) for start, end in found)
        assert found == sorted(found)


@pytest.mark.parametrize(
    "text",
    [
        "x" * 200_000 + "&amp;",
        "Anna, chart MRN-1000001, call +49 30 1234567 &amp; more. " * 4_000,
        "%41" * 60_000,
        "é" * 200_000 + "%41",
        "&amp;amp;amp;amp;" * 12_000,
    ],
    ids=["one escape", "prose", "escapes", "accents", "escaped escapes"],
)
def test_a_text_takes_little_memory(text: str) -> None:
    """A letter of some megabytes took gigabytes."""
    fold("é½")  # the table of characters stays
    tracemalloc.start()
    try:
        fold(text)
        for _ in fold_decoded(text):
            pass
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < BYTES_MAX * len(text.encode())
