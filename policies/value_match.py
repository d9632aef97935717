"""Value lists of AuthorizationPolicy fields: texts, paths, hosts, networks and ports. One matching value is enough.

A text is `exact`, `prefix*`, `*suffix`, or `*` for any non-empty value. There are no regular expressions. A missing
value (None) matches no list. Lookup tables are built once and are not part of comparisons or `repr`.
https://istio.io/latest/docs/reference/config/security/authorization-policy/#Rule
"""

import ipaddress
from dataclasses import dataclass, field
from functools import lru_cache

from policies.path_normalization import BASE, PathNormalization
from policies.path_template import PathTemplate, is_template
from policies.rewrite import split_port

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class Texts:
    """`texts` as written in the policy."""

    texts: tuple[str, ...]
    _exact: frozenset[bytes] = field(init=False, repr=False, compare=False)
    _prefixes: tuple[bytes, ...] = field(init=False, repr=False, compare=False)
    _suffixes: tuple[bytes, ...] = field(init=False, repr=False, compare=False)
    _has_any: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        texts = [text.encode() for text in self.texts if text != "*"]
        suffixes = [text for text in texts if text.startswith(b"*")]
        prefixes = [text for text in texts if text.endswith(b"*") and not text.startswith(b"*")]
        object.__setattr__(self, "_exact", frozenset(texts) - {*suffixes, *prefixes})
        object.__setattr__(self, "_prefixes", tuple(text[:-1] for text in prefixes))
        object.__setattr__(self, "_suffixes", tuple(text[1:] for text in suffixes))
        object.__setattr__(self, "_has_any", "*" in self.texts)

    def __str__(self) -> str:
        return ", ".join(self.texts)

    def accepts(self, value: bytes | None) -> bool:
        if value is None:
            return False
        return (
            value in self._exact
            or (self._has_any and value != b"")
            or (self._prefixes != () and value.startswith(self._prefixes))
            or (self._suffixes != () and value.endswith(self._suffixes))
        )


@dataclass(frozen=True, slots=True)
class Paths:
    """Texts and path templates, normalized like request paths."""

    texts: tuple[str, ...]
    normalization: PathNormalization = BASE
    _texts: Texts = field(init=False, repr=False, compare=False)
    _templates: tuple[PathTemplate, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Raises ValueError for an invalid path template."""
        normal = [self._normal(text) for text in self.texts]
        object.__setattr__(self, "_texts", Texts(tuple(text for text in normal if not is_template(text))))
        object.__setattr__(self, "_templates", tuple(PathTemplate.parse(text) for text in normal if is_template(text)))

    def _normal(self, text: str) -> str:
        """Return the text in the normalized form that request paths have."""
        path, normalization = text.encode(), self.normalization
        if text.startswith("*"):
            path = b"*" + normalization.of_suffix(path[1:])
        elif text.endswith("*") and not is_template(text):
            path = normalization.of_prefix(path[:-1]) + b"*"
        else:
            path = normalization.of_path(path)
        return path.decode()

    def __str__(self) -> str:
        return ", ".join(self.texts)

    def accepts(self, value: bytes) -> bool:
        return self._texts.accepts(value) or any(template.accepts(value) for template in self._templates)


@dataclass(frozen=True, slots=True)
class Hosts:
    """Case-insensitive hosts. A host without a port matches every port."""

    texts: tuple[str, ...]
    _texts: Texts = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_texts", Texts(tuple(text.lower() for text in self.texts)))

    def __str__(self) -> str:
        return ", ".join(self.texts)

    def accepts(self, authority: bytes) -> bool:
        """Whether a canonical (lower-case) authority matches."""
        return self._texts.accepts(authority) or self._texts.accepts(split_port(authority)[0])


@dataclass(frozen=True, slots=True)
class Networks:
    networks: tuple[Network, ...]

    def __str__(self) -> str:
        return ", ".join(map(str, self.networks))

    def accepts(self, ip: str) -> bool:
        address = address_of(ip)
        return address is not None and any(address in network for network in self.networks)


@dataclass(frozen=True, slots=True)
class Ports:
    ports: tuple[int, ...]

    def __str__(self) -> str:
        return ", ".join(map(str, self.ports))

    def accepts(self, port: int) -> bool:
        return port in self.ports


@lru_cache(maxsize=4096)
def address_of(ip: str) -> Address | None:
    """Parse an address; IPv4-mapped IPv6 becomes IPv4. None if invalid."""
    try:
        address = ipaddress.ip_address(ip)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address
