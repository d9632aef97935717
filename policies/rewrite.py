"""Edits to a head: HTTPRoute's RequestHeaderModifier and ResponseHeaderModifier.

An edit is checked when it is built, so that applying it cannot fail.
"""

from dataclasses import dataclass

from policies.attributes import Header, Headers, RequestHead


@dataclass(frozen=True, slots=True)
class HeaderEdit:
    """`set` replaces all values of a name, `add` appends one, `remove` deletes; names are lower-case.

    They apply in the order set, add, remove. Setting `Host` is changing the authority.
    """

    set: tuple[Header, ...] = ()
    add: tuple[Header, ...] = ()
    remove: tuple[bytes, ...] = ()
    authority: bytes | None = None

    def apply(self, headers: Headers) -> Headers:
        """A new list of headers with the edit made."""
        gone = {*self.remove, *(name for name, _ in self.set)}
        edited = [header for header in headers if header[0] not in gone] if gone else list(headers)
        edited.extend(header for header in self.set if header[0] not in self.remove)
        edited.extend(header for header in self.add if header[0] not in self.remove)
        return edited

    def apply_to(self, head: RequestHead) -> None:
        """Make the edit in a request's head."""
        head.headers = self.apply(head.headers)
        if self.authority is not None:
            head.authority = self.authority
