"""Path normalization, applied both to requests and to the paths in policies and routes.

A policy in another form than requests would never match: a DENY of `/%61dmin` must apply to `/admin`. BASE follows RFC
3986 section 6.2.2 as Istio does: decode unreserved characters, replace backslashes by slashes, then remove dot
segments. Remaining escapes keep their case, which Istio's policies distinguish: `/a%2fb` is not `/a%2Fb`.
https://istio.io/latest/docs/reference/config/istio.mesh.v1alpha1/#MeshConfig-ProxyPathNormalization
"""

import re
from dataclasses import dataclass

from policies.dot_segments import without_dots

_SLASHES = re.compile(rb"//+")
_ESCAPED_SLASH = re.compile(rb"%2[Ff]|%5[Cc]")
_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")
# `%2%45` decodes to `%2E`, which the next decoder reads as a dot.
_HIDDEN_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})[0-9A-Fa-f]?%(?:3[0-9]|[46][1-6])").search
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


@dataclass(frozen=True, slots=True)
class PathNormalization:
    """A mode of MeshConfig.pathNormalization: `NONE`, `BASE`, `MERGE_SLASHES` or `DECODE_AND_MERGE_SLASHES`.

    Each mode includes the ones before it.
    """

    mode: str = "BASE"

    @property
    def merges_slashes(self) -> bool:
        return self.mode in {"MERGE_SLASHES", "DECODE_AND_MERGE_SLASHES"}

    def of_request(self, path: bytes) -> bytes:
        """Normalize a request's path.

        Raises ValueError for `%00`, and for escapes that appear only after decoding other escapes.
        """
        if b"%" in path and (b"%00" in path or (self.mode != "NONE" and _HIDDEN_ESCAPE(path))):
            raise ValueError(f"{path!r} has an ambiguous escape")
        return self.of_path(path)

    def of_path(self, path: bytes) -> bytes:
        """Normalize a whole path of a configuration."""
        if self.mode == "NONE":
            return path
        path = self._decoded(path)
        if b"/." in path and path.startswith(b"/"):
            path = without_dots(path.split(b"/")[1:])
        return self._merged(path)

    def of_prefix(self, prefix: bytes) -> bytes:
        """Normalize a path prefix of a configuration.

        Its last segment may be incomplete, so a trailing `/.` stays: it may be the start of `/.git`.
        """
        whole, slash, begun = prefix.rpartition(b"/")
        if not slash or self.mode == "NONE":
            return prefix
        begun = self._decoded(begun)
        return self._merged(self.of_path(whole + slash) + begun)

    def of_suffix(self, suffix: bytes) -> bytes:
        """Normalize a path suffix of a configuration.

        Its beginning is unknown, so dot segments stay.
        """
        return suffix if self.mode == "NONE" else self._merged(self._decoded(suffix))

    def _decoded(self, path: bytes) -> bytes:
        if b"%" in path:
            if self.mode == "DECODE_AND_MERGE_SLASHES":
                path = _ESCAPED_SLASH.sub(b"/", path)
            path = _ESCAPE.sub(_decode_unreserved, path)
        return path.replace(b"\\", b"/")

    def _merged(self, path: bytes) -> bytes:
        return _SLASHES.sub(b"/", path) if self.merges_slashes else path


BASE = PathNormalization()


def _decode_unreserved(match: re.Match[bytes]) -> bytes:
    byte = int(match[1], 16)
    return bytes([byte]) if byte in _UNRESERVED else match[0]
