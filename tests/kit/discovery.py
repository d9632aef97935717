"""From YAML text to a registry in one step."""

from textwrap import dedent

from l4.config import manifest
from l4.config.resources import Decoder, Resources
from l4.discovery.index import Index
from l4.discovery.kubernetes import KINDS
from l4.discovery.mesh import Mesh
from l4.discovery.registry import Registry


def resources_in(text: str) -> Resources:
    """Return the typed objects of a manifest without problems."""
    documents, unreadable = manifest.parse("mesh.yaml", dedent(text).encode())
    decoded = Decoder(KINDS).decode(documents)
    assert not unreadable
    assert not decoded.problems
    return decoded.resources


def registry_in(text: str, mesh: Mesh | None = None) -> Registry:
    return Index(resources_in(text), mesh or Mesh()).registry
