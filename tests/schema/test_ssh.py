"""Addresses and jump hosts: every form that is meant, and none that is not."""

import pytest

from rackwright.schema.problem import Problem
from rackwright.schema.ssh import parse_address, parse_jump


@pytest.mark.parametrize(
    ("written", "parts"),
    [
        ("bastion", (None, "bastion", 22)),
        ("ops@bastion.example", ("ops", "bastion.example", 22)),
        ("ops@192.0.2.1:2222", ("ops", "192.0.2.1", 2222)),
        ("192.0.2.1:2222", (None, "192.0.2.1", 2222)),
        ("2001:db8::1", (None, "2001:db8::1", 22)),
        ("ops@2001:DB8::1", ("ops", "2001:db8::1", 22)),
        ("ops@[2001:db8::1]:2222", ("ops", "2001:db8::1", 2222)),
        ("[2001:db8::1]", (None, "2001:db8::1", 22)),
    ],
)
def test_a_jump_host_is_user_address_and_port(written: str, parts: tuple[str | None, str, int]) -> None:
    assert parse_jump(written) == parts


@pytest.mark.parametrize(
    "written", ["", "@bastion", "ops@", "bastion:", "bastion:ssh", "bastion:0", "bastion:65536", "a@b@c", "a b", "[::1"]
)
def test_another_form_of_jump_host_is_refused(written: str) -> None:
    with pytest.raises(Problem):
        parse_jump(written)


@pytest.mark.parametrize("written", ["192.0.2.1", "2001:db8::1", "alpha", "alpha-1.example", "1st.example"])
def test_an_address_is_an_ip_address_or_a_host_name(written: str) -> None:
    assert parse_address(written) == written


@pytest.mark.parametrize(
    "written", ["", "192.0.2", "192.0.2.256", "192.0.2.1:22", "192.0.2.1/24", "2001:db8::g", "-alpha", "al pha", "ä"]
)
def test_another_form_of_address_is_refused(written: str) -> None:
    with pytest.raises(Problem):
        parse_address(written)
