"""IPv6 addresses may be fetched from only if they are global unicast; whatever can stand for an
IPv4 address is refused (D11)."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, IPv6Network

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from taskfleet.fetch.address import fault

GLOBAL_UNICAST = IPv6Network("2000::/3")
ADDRESSES = st.integers(0, 2**128 - 1).map(IPv6Address)
OWN = tuple(IPv6Network(block) for block in ("::1/128", "fc00::/7", "fec0::/10"))
"""What a private network uses; a setting may admit it."""
IPV4 = st.integers(0, 2**32 - 1)
FORMS = {
    "compatible": lambda ip: ip,
    "mapped": lambda ip: (0xFFFF << 32) | ip,
    "SIIT": lambda ip: (0xFFFF << 48) | ip,
    "SIIT of RFC 8215": lambda ip: (0x64_FF9B_0001 << 80) | ip,
    "NAT64": lambda ip: (0x64_FF9B << 96) | ip,
    "6to4": lambda ip: (0x2002 << 112) | (ip << 80) | 1,
    "Teredo server": lambda ip: (0x2001_0000 << 96) | (ip << 64) | 1,
    "Teredo client": lambda ip: (0x2001_0000 << 96) | (ip ^ 0xFFFF_FFFF),
    "ISATAP": lambda ip: (0x2606_2800_0220_0001 << 64) | (0x5EFE << 32) | ip,
    "ISATAP of a public address": lambda ip: (
        (0x2606_2800_0220_0001 << 64) | (0x0200_5EFE << 32) | ip
    ),
}


@given(ADDRESSES)
def test_an_address_outside_global_unicast_is_refused(ip: IPv6Address) -> None:
    assume(ip not in GLOBAL_UNICAST)
    assert fault(str(ip), allow_private=False)
    if not any(ip in block for block in OWN):
        assert fault(str(ip), allow_private=True)


@pytest.mark.parametrize("form", FORMS)
@given(ip=IPV4, allow_private=st.booleans())
def test_a_form_of_an_ipv4_address_is_refused(form: str, ip: int, allow_private: bool) -> None:
    address = IPv6Address(FORMS[form](ip))
    assume(address != IPv6Address("::1"))
    assert "never allowed" in (fault(str(address), allow_private=allow_private) or "")


@pytest.mark.parametrize(
    "address",
    [
        "2001:2::1",
        "2001:10::1",
        "2001:20::1",
        "2001:1ff:ffff::1",
        "2001:db8:1::1",
        "3fff::1",
        "3fff:fff:ffff::1",
        "4000::1",
        "5f00::1",
        "100::1",
        "1fff:ffff::1",
    ],
)
def test_a_special_range_is_refused(address: str) -> None:
    assert fault(address, allow_private=False)


@pytest.mark.parametrize(
    "address", ["2001:200::1", "2001:4860:4860::8888", "2600:1f18::1", "2a05:d018::1", "2c0f::1"]
)
def test_global_unicast_is_allowed(address: str) -> None:
    assert fault(address, allow_private=False) is None


@given(IPV4)
def test_an_ipv4_address_is_judged_alike_in_both_settings_unless_private(number: int) -> None:
    ip = str(IPv4Address(number))
    if fault(ip, allow_private=False) is None:
        assert fault(ip, allow_private=True) is None
