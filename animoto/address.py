"""The rule for IP addresses: which ones a file may be fetched from. Owns the rule alone;
`animoto.connect` applies it to each address before it connects there.

The rule is stricter than `ipaddress`'s `is_global`, which admits NAT64, 6to4 and multicast.
"""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

_Network = IPv4Network | IPv6Network


def _networks(*blocks: str) -> tuple[_Network, ...]:
    return tuple(ip_network(block) for block in blocks)


_NEVER_ALLOWED = _networks(
    "169.254.0.0/16",  # link-local: instance metadata, ECS credentials
    "fe80::/10",
    "fd00:ec2::/32",  # instance metadata and DNS over IPv6
    "0.0.0.0/8",  # "this host"
    "::/128",
    "224.0.0.0/4",  # multicast
    "ff00::/8",
)
_EMBED_IPV4 = _networks(
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
    """Returns why nothing may be fetched from `address`, or None if it is allowed.

    address: numeric, as a resolver or a socket gives it; an IPv6 zone (`%eth0`) is ignored.
    allow_private: also admits private and loopback addresses, for the local cloud. Link-local and
        multicast addresses and those that embed an IPv4 address stay refused.
    """
    ip = ip_address(address.partition("%")[0])
    if any(ip in network for network in _NEVER_ALLOWED):
        return "is link-local, multicast or unspecified, which is never allowed"
    if any(ip in network for network in _EMBED_IPV4) and ip != IPv6Address("::1"):
        return "embeds an IPv4 address, which is never allowed"
    if not ip.is_global or any(ip in network for network in _NOT_PUBLIC):
        return None if allow_private else "is not a public address"
    return None
