"""The three commands of docs/install.md, from a cluster without a mesh to Bookinfo's page through it."""

from collections.abc import Iterator

import pytest

from tests.cluster import mesh
from tests.cluster.bookinfo import NAMESPACE, PageTests, running
from tests.cluster.kubectl import forwarded

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def bookinfo() -> Iterator[None]:
    with running(mesh.install):
        yield


@pytest.fixture(scope="module")
def port(bookinfo: None) -> Iterator[int]:
    with forwarded(NAMESPACE, "productpage", 9080) as it:
        yield it


class TestPage(PageTests):
    """By the mesh's own controller."""
