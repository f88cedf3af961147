"""What a command gives up comes to the provider that it starts, and to nobody else."""

import pytest

from rackwright.errors import DeclarationError
from rackwright.provider import consents


def test_a_consent_arrives_unchanged(monkeypatch):
    given = {"S1": "crypto_LUKS 11, data 9c1e, 8 sectors written since 5f3c1a2b", "S2": "a=b"}

    for name, value in consents.pass_on(consents.parse([f"{serial}={text}" for serial, text in given.items()])).items():
        monkeypatch.setenv(name, value)

    assert consents.load() == given


def test_without_a_command_no_consent_is_needed(monkeypatch):
    monkeypatch.delenv(consents.VARIABLE, raising=False)

    assert consents.load() == {}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["S1"], "--consent: 'S1' is not a consent; SERIAL=CONTENT."),
        (["S1="], "'S1=' is not a consent"),
        (["=ext4"], "'=ext4' is not a consent"),
        (["S1=a", "S1=b"], "drive S1 has two consents"),
    ],
)
def test_a_consent_of_another_form_is_refused(given, expected):
    with pytest.raises(DeclarationError) as refused:
        consents.parse(given)

    assert expected in str(refused.value)
