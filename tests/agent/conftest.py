# SPDX-License-Identifier: Apache-2.0
"""The node that most tests of the agent begin with; a module that needs another one has a fixture of this name."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kubypass_lab.bench.cluster import named_service, write_file
from kubypass_lab.bench.node import BareNode, bare_node


@pytest.fixture
def node() -> Iterator[BareNode]:
    """A bare node with the Service default/web, which has no endpoints."""
    with bare_node() as made:
        write_file(made.manifests / "service.json", named_service("web", "10.96.0.1"))
        yield made
