"""Recognisers of identifiers: every invented one is found in every writing, and ordinary numbers are not."""

import random
from collections.abc import Callable

import pytest

from rackwright.masking.fold import fold, fold_decoded
from rackwright.masking.national_ids import DIGITS, SHAPES
from rackwright.masking.recognisers import Recogniser, replace
from rackwright.schema.masking import COUNTRIES as ALL_COUNTRIES
from rackwright.schema.masking import TextRules
from tests.support.personal_data import COUNTRIES, KINDS, ORDINARY, SENTENCES, full_width, sentence, zero_width

RULES = TextRules(countries=COUNTRIES, records={"mrn": ("MRN-#######",)})
TRIES = 40
SIGNS = ("\t", "    ", ", ", ",", "_", "·", "•", ";", ":", "*", "\x01", " / ", " – ", ".", "|", "→")
"""Signs between the parts of a number."""


def masked(text: str, recogniser: Recogniser) -> str:
    hits = recogniser.find(text)
    return replace(text, hits, ["x"] * len(hits))


@pytest.mark.parametrize("writing", [str, full_width, zero_width], ids=lambda each: each.__name__)
@pytest.mark.parametrize("kind", KINDS)
def test_an_identifier_is_replaced_and_nothing_beside_it(kind: str, writing: Callable[[str], str]) -> None:
    source, recogniser = random.Random(f"{kind} {writing.__name__}"), Recogniser(RULES)
    for _ in range(TRIES):
        value = writing(KINDS[kind](source)).rstrip("\u200b")
        for form in SENTENCES:
            assert masked(form.format(value), recogniser) == form.format("[x]")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"\u0031\u0033800138000", "[x]"),
        ("anna%40example.com", "[x]"),
        ("&#49;3800138000", "[x]"),
        ("anna (at) example.com", "[x]"),
        ("王小明@example.com", "[x]"),
        ("请发到anna@example.com。", "请发到[x]。"),
        ("tel13800138000", "tel[x]"),
        ("1️⃣3️⃣800138000", "[x]"),
        ("١٣٨٠٠١٣٨٠٠٠", "[x]"),
        ("13800138000 110101199003078515", "[x] [x]"),
        ("DE89 3704 0044 0532 0130 00 und DE89370400440532013000", "[x] und [x]"),
        ("E 91110000600037341L", "E [x]"),
        ("138–0013–8000", "[x]"),
        ("MAC:00:1B:44:11:3A:B7", "MAC:[x]"),
        ("001b.4411.3ab7", "[x]"),
        ("0086 138 0013 8000", "[x]"),
        ("030/1234567", "[x]"),
        ("06 12 34 56 78", "[x]"),
        ("1-3-8-0-0-1-3-8-0-0-0", "[x]"),
        ("mrn-1234567", "[x]"),
        ("4111111111111111.0", "[x].0"),
        ("86095742719.0", "[x].0"),
        *((sign.join(("4111", "1111", "1111", "1111")), "[x]") for sign in SIGNS),
        *((sign.join(("138", "0013", "8000")), "[x]") for sign in SIGNS),
        *((sign.join(("DE89", "3704", "0044", "0532", "0130", "00")), "[x]") for sign in SIGNS if sign != "."),
        *((f"MRN{sign}1234567", "[x]") for sign in (*SIGNS, "", "--", "–")),
        ("110101/19900307/8515", "[x]"),
        ("".join(chr(0xE0000 + ord(each)) for each in "13800138000"), "[x]"),
        ("➊➌➑➊➊➊➌➑➊➊➊", "[x]"),
        ("⓵⓷⓼⓵⓵⓵⓷⓼⓵⓵⓵", "[x]"),
        ("用户@例子.中国", "[x]"),
        ("иван.петров@почта.рф", "[x]"),
        ("anna@exаmple.com", "[x]"),
        ("anna@example。com", "[x]"),
        ('"anna schmidt"@example.com', "[x]"),
        ("an anna @ example.com bitte", "an [x] bitte"),
        ("anna  (at)  example.com", "[x]"),
        ("anna {At} example[dot]com", "[x]"),
        ("10[.]1[.]2[.]3", "[x]"),
        ("010.020.030.040", "[x]"),
        ("anna%2540example.com", "[x]"),
        ("anna%25252540example.com", "[x]"),
        ("anna&commat;example&period;com", "[x]"),
        ("&#0000049;3800138000", "[x]"),
        ("&amp;#49;3800138000", "[x]"),
        (r"\u{31}3800138000", "[x]"),
        (r"\\u0031\\u0033800138000", "[x]"),
        (r"\U000000313800138000", "[x]"),
        (r"\x313800138000", "[x]"),
        (r"\0613800138000", "[x]"),
        ("=313800138000", "[x]"),
        ("anna=40exam=\nple.com", "[x]"),
        ("%EF%BC%913800138000", "[x]"),
        ("00000000-0000-0000-0000-013800138000", "00000000-0000-0000-0000-[x]"),
        ("41111111-1111-1111-0000-000000000000", "[x]-0000-000000000000"),
        ("2026-01-02T10:11:12.123456782", "2026-01-02T10:11:12.[x]"),
        ("DE89  3704  0044  0532  0130  00", "[x]"),
    ],
)
def test_a_writing_of_the_same_identifier_is_found(text: str, expected: str) -> None:
    assert masked(text, Recogniser(RULES)) == expected


@pytest.mark.parametrize(
    "text",
    [
        "a3f413800138000b1c2d",
        "550e8400-e29b-41d4-a716-446655440000",
        "2024-03-05T12:34:56.123456+08:00",
        "1.234.567,89",
        "std::vector<int> 12:34:56",
        "v1.2.3",
        "05-12-2026 10 Uhr",
        "05/12/2026 10:30",
        "1 3 5 7 9 11 13 15 17 19",
        "4111 1111 1111 1112",
        "110101199003078516",
        "",
        "no digit",
    ],
)
def test_an_ordinary_text_is_as_before(text: str) -> None:
    assert masked(text, Recogniser(RULES)) == text


@pytest.mark.parametrize("kind", ORDINARY)
def test_ordinary_numbers_are_hardly_ever_taken_for_identifiers(kind: str) -> None:
    """Countries whose numbers have one check digit alone are left out: see the guide."""
    source, recogniser = random.Random(kind), Recogniser(TextRules(countries=("CN", "DE")))
    texts = [sentence(source, ORDINARY[kind](source)) for _ in range(1000)]

    assert sum(bool(recogniser.find(each)) for each in texts) <= 10


def test_equal_numbers_in_other_writings_have_one_value() -> None:
    recogniser = Recogniser(RULES)
    numbers = ["13800138000", "+86 138 0013 8000", "0086-138-0013-8000", "１３８ ００１３ ８０００"]

    assert {hit.value for each in numbers for hit in recogniser.find(each)} == {"13800138000"}


def test_a_country_that_is_not_named_is_not_searched_for() -> None:
    assert Recogniser(TextRules(countries=())).find("110101199003078515") == []


def test_each_country_has_an_identifier() -> None:
    assert {*DIGITS} | {*SHAPES} == {*ALL_COUNTRIES}
    for country in ALL_COUNTRIES:
        Recogniser(TextRules(countries=(country,))).find(
            "1234567 12345678 123456789 1234567890 12345678901 12345678901234567"
        )


def test_places_lead_back_to_the_original() -> None:
    text = "a\u200bb\\u0063ｄ㎏e"
    [folded] = fold_decoded(text)

    assert fold(text).text == "ab\\u0063dkge"
    assert folded.text == "abcdkge"
    assert [text[slice(*folded.original(index, index + 1))] for index in range(7)] == [
        "a",
        "b",
        "\\u0063",
        "ｄ",
        "㎏",
        "㎏",
        "e",
    ]


def test_the_time_of_a_row_of_numbers_grows_with_its_length() -> None:
    """
    A second; before, it grew with the square of the length, and this text took half a minute.
    """
    row = "1:" * (1 << 17)
    assert Recogniser(TextRules(countries=())).find(f"{row} 4111 1111 1111 1111")[0].kind == "card"
