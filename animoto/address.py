"""Which addresses a picture may be fetched from. Owns the rule alone; `animoto.download` applies
it to the address that is really connected to.

The rule is stricter than `ipaddress`'s `is_global`, which lets through NAT64, 6to4 and multicast.
"""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

_Network = IPv4Network | IPv6Network


def _networks(*texts: str) -> tuple[_Network, ...]:
    return tuple(ip_network(text) for text in texts)


_NEVER = _networks(
    "169.254.0.0/16",  # link-local: instance metadata, ECS credentials
    "fe80::/10",
    "fd00:ec2::/32",  # instance metadata and DNS over IPv6
    "0.0.0.0/8",  # "this host"
    "::/128",
    "224.0.0.0/4",  # multicast
    "ff00::/8",
)
_TRANSLATED = _networks(
    "::ffff:0:0/96",  # IPv4-mapped
    "::/96",  # IPv4-compatible, and ::1
    "64:ff9b::/96",  # NAT64
    "64:ff9b:1::/48",
    "2002::/16",  # 6to4
    "2001::/32",  # Teredo
)
_NOT_PUBLIC = _networks(
    "100.64.0.0/10",  # carrier-grade NAT
    "192.88.99.0/24",  # 6to4 relays
    "fec0::/10",  # site-local
)


def fault(address: str, *, allow_private: bool) -> str | None:
    """Why `address`, a numeric one as a resolver or a socket gives it, must not be fetched from;
    None when it may. `allow_private` admits private and loopback addresses, for the local cloud;
    link-local, multicast and addresses that hide another one stay refused."""
    ip = ip_address(address.partition("%")[0])
    if any(ip in network for network in _NEVER):
        return "is link-local, multicast or unspecified, which is never allowed"
    if any(ip in network for network in _TRANSLATED) and ip != IPv6Address("::1"):
        return "hides an IPv4 address, which is never allowed"
    if not ip.is_global or any(ip in network for network in _NOT_PUBLIC):
        return None if allow_private else "is not a public address"
    return None
