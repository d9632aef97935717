"""From YAML text to a registry in one step."""

from textwrap import dedent

from l4.config import manifest
from l4.config.resources import Decoder, Resources
from l4.discovery.kubernetes import KINDS, Mesh, registry_of
from l4.discovery.registry import Registry


def resources_in(text: str) -> Resources:
    """The typed objects of a manifest in which nothing is wrong."""
    documents, unreadable = manifest.parse("mesh.yaml", dedent(text).encode())
    decoded = Decoder(KINDS).decode(documents)
    assert not unreadable
    assert not decoded.problems
    return decoded.resources


def registry_in(text: str, mesh: Mesh | None = None) -> Registry:
    return registry_of(resources_in(text), mesh or Mesh())
