"""The rule for IP addresses: which ones a file may be fetched from. Owns the rule alone;
`taskfleet.fetch.connect` applies it to each address before it connects there.

The rule is stricter than `ipaddress`'s `is_global`, which admits NAT64, 6to4, multicast and most of
what nobody has been given. IPv6 is a list of what is allowed: global unicast without the special
ranges inside it. A network's own NAT64 prefix cannot be known here; it looks like any other.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

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
    "::ffff:0:0:0/96",  # IPv4-translated (SIIT)
    "64:ff9b::/96",  # NAT64
    "64:ff9b:1::/48",
    "2002::/16",  # 6to4
    "2001::/32",  # Teredo
)
_ISATAP = (0x0000_5EFE, 0x0200_5EFE)
"""The words before the last one of an address that embeds an IPv4 address for a tunnel (ISATAP)."""
_GLOBAL_UNICAST = IPv6Network("2000::/3")
_PRIVATE_IPV6 = _networks(
    "::1/128",
    "fc00::/7",
    "fec0::/10",  # site-local
    "2001:db8::/32",  # documentation
)
_NOT_PUBLIC = _networks(
    "100.64.0.0/10",  # carrier-grade NAT
    "192.88.99.0/24",  # 6to4 relays
    *("2001::/23", "3fff::/20"),  # protocol assignments; documentation
    *(str(block) for block in _PRIVATE_IPV6),
)


def fault(address: str, *, allow_private: bool) -> str | None:
    """Returns why nothing may be fetched from `address`, or None if it is allowed.

    address: numeric, as a resolver or a socket gives it; an IPv6 zone (`%eth0`) is ignored.
    allow_private: also admits private and loopback addresses, for the local cloud. Link-local and
        multicast addresses, those that embed an IPv4 address, and IPv6 addresses that are neither
        private nor global unicast stay refused.
    """
    ip = ip_address(address.partition("%")[0])
    if any(ip in network for network in _NEVER_ALLOWED):
        return "is link-local, multicast or unspecified, which is never allowed"
    if _embeds_ipv4(ip):
        return "embeds an IPv4 address, which is never allowed"
    known = ip.version == 4 or any(ip in block for block in (_GLOBAL_UNICAST, *_PRIVATE_IPV6))
    if not known:
        return "is neither private nor global unicast, which is never allowed"
    if not ip.is_global or any(ip in network for network in _NOT_PUBLIC):
        return None if allow_private else "is not a public address"
    return None


def _embeds_ipv4(ip: IPv4Address | IPv6Address) -> bool:
    """Returns whether some translator or tunnel would take `ip` for an IPv4 address."""
    if ip.version == 4 or ip == IPv6Address("::1"):
        return False
    return any(ip in block for block in _EMBED_IPV4) or (int(ip) >> 32) & 0xFFFF_FFFF in _ISATAP
