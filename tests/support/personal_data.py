"""Invented identifiers of people, with check digits by the published rules: it imports no recogniser and no library."""

import random
from collections.abc import Callable, Mapping
from datetime import date, timedelta
from string import ascii_uppercase
from uuid import UUID

LETTERS = "0123456789ABCDEFGHJKLMNPQRTUWXY"
"""Signs of a Chinese credit code. Source: GB 32100-2015."""
HETU = "0123456789ABCDEFHJKLMNPRSTUVWXY"
DNI = "TRWAGMYFPDXBNJZSQVHLCKE"
ODD = dict(
    zip(
        "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ",
        (*(1, 0, 5, 7, 9, 13, 15, 17, 19, 21) * 2, *(2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23)),
        strict=True,
    )
)
"""Values of the signs in odd places of an Italian codice fiscale."""
Random = random.Random


def digits(source: Random, number: int) -> str:
    """Return *number* digits, the first of which is not 0."""
    return str(source.randrange(10 ** (number - 1), 10**number))


def day(source: Random) -> date:
    """Return a day of birth."""
    return date(1940, 1, 1) + timedelta(source.randrange(25_000))


def luhn(number: str) -> str:
    """Return *number* with its check digit by Luhn."""
    total = sum(
        int(each) if index % 2 else sum(divmod(2 * int(each), 10)) for index, each in enumerate(reversed(number))
    )
    return number + str(-total % 10)


def weighted(number: str, weights: tuple[int, ...]) -> int:
    """Return the sum of the digits of *number*, each times its weight."""
    return sum(int(each) * weight for each, weight in zip(number, weights, strict=True))


def chinese_id(source: Random) -> str:
    """Source: GB 11643-1999."""
    body = f"{source.choice(('110101', '310104', '440305', '330106'))}{day(source):%Y%m%d}{source.randrange(1000):03}"
    return body + "10X98765432"[sum(int(each) * 2 ** (17 - index) for index, each in enumerate(body)) % 11]


def credit_code(source: Random) -> str:
    """Source: GB 32100-2015."""
    body = f"91{source.choice(('110000', '310000', '440300'))}{''.join(source.choice(LETTERS) for _ in range(9))}"
    total = sum(LETTERS.index(each) * pow(3, index, 31) for index, each in enumerate(body))
    return body + LETTERS[-total % 31]


def iban(source: Random) -> str:
    """Return an account number of Germany."""
    account = digits(source, 18)
    return f"DE{98 - int(f'{account}131400') % 97:02}{account}"


def german_tax_id(source: Random) -> str:
    """Return an identification number, with ten digits of which one occurs twice, by ISO 7064 MOD 11, 10."""
    signs = source.sample("123456789", 9)
    signs.insert(source.randrange(2, 10), signs[0])
    product = 10
    for each in signs:
        product = ((int(each) + product) % 10 or 10) * 2 % 11
    return "".join(signs) + str((11 - product) % 10)


def french_nir(source: Random) -> str:
    """Return a number of the social security."""
    born = day(source)
    place = f"{source.randrange(10, 90)}{source.randrange(1, 900):03}"
    body = f"{source.choice('12')}{born:%y%m}{place}{source.randrange(1, 999):03}"
    return f"{body}{97 - int(body) % 97:02}"


def codice_fiscale(source: Random) -> str:
    """Source: D.M. 23 December 1976."""
    born = f"{source.randrange(40, 99)}{source.choice('ABCDEHLMPRST')}{source.randrange(1, 29):02}"
    body = f"RSSMRA{born}H{source.randrange(501, 999)}"
    total = sum(
        ODD[each] if index % 2 == 0 else int(each, 36) - (10 if each.isalpha() else 0)
        for index, each in enumerate(body)
    )
    return body + ascii_uppercase[total % 26]


def dutch_bsn(source: Random) -> str:
    """Return a number by the proof of eleven."""
    while True:
        body = digits(source, 8)
        if (rest := weighted(body, (9, 8, 7, 6, 5, 4, 3, 2)) % 11) < 10:
            return f"{body}{rest}"


def pesel(source: Random) -> str:
    """Return a Polish number."""
    born = day(source)
    body = f"{born:%y}{born.month + (20 if born.year >= 2000 else 0):02}{born:%d}{source.randrange(10_000):04}"
    return body + str(-weighted(body, (1, 3, 7, 9, 1, 3, 7, 9, 1, 3)) % 10)


def cpf(source: Random) -> str:
    """Return a Brazilian number, in its usual form."""
    body = digits(source, 9)
    for size in (9, 10):
        rest = sum(int(each) * (size + 1 - index) for index, each in enumerate(body)) * 10 % 11
        body += str(rest % 10)
    return f"{body[:3]}.{body[3:6]}.{body[6:9]}-{body[9:]}"


def personnummer(source: Random) -> str:
    """Return a Swedish number."""
    number = luhn(f"{day(source):%y%m%d}{source.randrange(1, 999):03}")
    return f"{number[:6]}-{number[6:]}"


def hetu(source: Random) -> str:
    """Return a Finnish number of a person born before 2000."""
    born, number = date(1940, 1, 1) + timedelta(source.randrange(20_000)), source.randrange(2, 900)
    return f"{born:%d%m%y}-{number:03}{HETU[int(f'{born:%d%m%y}{number:03}') % 31]}"


def dni(source: Random) -> str:
    """Return a Spanish number."""
    number = digits(source, 8)
    return number + DNI[int(number) % 23]


def card(source: Random) -> str:
    """Return a number of a payment card in groups of four."""
    number = luhn(f"{source.choice(('4', '51', '52', '55'))}{digits(source, 15)}"[:15])
    return " ".join(number[index : index + 4] for index in range(0, 16, 4))


def ssn(source: Random) -> str:
    """Return a number of the social security of the United States."""
    return f"{source.randrange(100, 660)}-{source.randrange(10, 99)}-{source.randrange(1000, 9999)}"


def mobile(source: Random) -> str:
    """Return a Chinese number with its country."""
    first, second, third = source.randrange(100), source.randrange(10**4), source.randrange(10**4)
    return f"+86 1{source.choice('3589')}{first:02} {second:04} {third:04}"


def email(source: Random) -> str:
    """Return an address."""
    name, domain = source.choice(("anna", "li.wei", "k-mueller")), source.choice(("example.com", "mail.example.org"))
    return f"{name}{source.randrange(1000)}@{domain}"


def ipv6(source: Random) -> str:
    """Return an address of documentation."""
    parts = [f"{source.randrange(1, 65535):x}" for _ in range(3)]
    return f"2001:db8:{parts[0]}:{parts[1]}::{parts[2]}"


def order(source: Random) -> str:
    """Return an order number in one of the forms of shops."""
    number = source.randrange(10**6)
    return source.choice((f"PO-2026-{number:06}", f"2026{number:06}", f"A{digits(source, 8)}", digits(source, 8)))


def moment(source: Random) -> str:
    """Return a time of ISO 8601."""
    date_text = f"2026-{source.randrange(1, 13):02}-{source.randrange(1, 29):02}"
    clock = f"{source.randrange(24):02}:{source.randrange(60):02}"
    return source.choice((f"{date_text}T{clock}:{source.randrange(60):02}Z", f"{date_text} {clock}"))


KINDS: Mapping[str, Callable[[Random], str]] = {
    "mobile": lambda source: f"1{source.choice('356789')}{source.randrange(10**9):09}",
    "mobile with country": mobile,
    "landline": lambda source: (
        f"0{source.choice(('10', '21', '755', '571'))}-{source.randrange(2, 9)}{source.randrange(10**7):07}"
    ),
    "German telephone": lambda source: f"+49 {source.choice(('30', '89', '171'))} {source.randrange(10**6, 10**7)}",
    "American telephone": lambda source: (
        f"({source.randrange(201, 990)}) {source.randrange(200, 999)}-{source.randrange(10**4):04}"
    ),
    "e-mail": email,
    "Chinese id": chinese_id,
    "credit code": credit_code,
    "IBAN": iban,
    "card": card,
    "IPv4": lambda source: ".".join(str(source.randrange(1, 255)) for _ in range(4)),
    "IPv6": ipv6,
    "MAC": lambda source: ":".join(f"{source.randrange(256):02x}" for _ in range(6)),
    "record number": lambda source: f"MRN-{digits(source, 7)}",
    "German tax id": german_tax_id,
    "French NIR": french_nir,
    "codice fiscale": codice_fiscale,
    "Dutch BSN": dutch_bsn,
    "PESEL": pesel,
    "CPF": cpf,
    "personnummer": personnummer,
    "HETU": hetu,
    "DNI": dni,
    "SSN": ssn,
}
"""Makers of identifiers by kind."""
COUNTRIES = ("BR", "CN", "DE", "ES", "FI", "FR", "IT", "NL", "PL", "SE", "US")
"""Countries of these kinds."""
SENTENCES = (
    "患者联系方式{}，请尽快回复。",
    "她的号码是{}号，昨天登记的。",
    "Please note {} for the next visit.",
    "Bitte {} notieren und zurückrufen.",
    "({})",
    "编号：{}；已确认",
)
ORDINARY: Mapping[str, Callable[[Random], str]] = {
    "order": order,
    "time": moment,
    "epoch": lambda source: str(source.randrange(1_600_000_000, 1_900_000_000)),
    "digest": lambda source: f"{source.getrandbits(256):064x}",
    "short digest": lambda source: f"{source.getrandbits(48):012x}",
    "UUID": lambda source: str(UUID(int=source.getrandbits(128), version=4)),
    "price": lambda source: f"{source.randrange(10**6):,}.{source.randrange(100):02}",
    "measurement": lambda source: f"{source.random() * 1000:.6f}",
}
"""Makers of numbers that are no identifiers."""


def full_width(text: str) -> str:
    """Return *text* with full-width digits."""
    return text.translate({ord(each): ord(each) + 0xFEE0 for each in "0123456789"})


def zero_width(text: str) -> str:
    """Return *text* with a zero-width space after each third sign."""
    return "".join(f"{each}\u200b" if index % 3 == 2 else each for index, each in enumerate(text))


def sentence(source: Random, value: str) -> str:
    """Return *value* in a sentence in Chinese, English or German."""
    return source.choice(SENTENCES).format(value)
