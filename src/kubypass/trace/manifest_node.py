# SPDX-License-Identifier: Apache-2.0
"""A node of objects in files. It need not exist: programs, maps and network are made for the trace."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from kubypass.datapath.sizes import map_sizes
from kubypass.errors import ConfigError
from kubypass.kernel.features import probe_features
from kubypass.kube.manifests.manifest_source import ManifestSource
from kubypass.kube.snapshot import Snapshot
from kubypass.model.address import format_address
from kubypass.settings.files import load_settings
from kubypass.settings.settings import Settings
from kubypass.trace.node_view import view_from_node
from kubypass.trace.programs import open_programs
from kubypass.trace.scratch_maps import ScratchMaps
from kubypass.trace.traced_node import TracedNode, first_problems


@contextmanager
def manifest_node(
    manifests: Path, name: str, config: Path | None, say: Callable[[str], None] = lambda _: None
) -> Iterator[TracedNode]:
    """Makes the node `name` for the block (the first node by name, where it is empty); `config` holds settings."""
    settings, findings = load_settings(config)
    say(f"reading {manifests}")
    snapshot = ManifestSource(
        manifests, proxy_name=settings.services.proxy_name, every_pod=True
    ).read()
    name = name or next(iter(sorted(snapshot.nodes)), "")
    own = snapshot.nodes.get(name)
    if own is None:
        known = ", ".join(sorted(snapshot.nodes)) or "none"
        raise ConfigError(
            f"--node {name or '(none)'}: no such Node in {manifests}; known are {known}",
            hint=first_problems(snapshot.problems),
        )
    view = view_from_node(snapshot, name, own.addresses, settings, probe_features())
    notes = [str(found) for found in findings if found.level != "accepted"]
    with open_programs({}, sizes=_map_sizes(snapshot, settings), say=say) as programs:
        programs.configure(view.config)
        maps = ScratchMaps(view)
        maps.write(programs.maps, programs.ifindex)
        pods = {f"{pod.namespace}/{pod.name}": pod for pod in snapshot.pods.values()}
        texts = {key: [format_address(a) for a in pod.addresses] for key, pod in pods.items()}
        yield TracedNode(
            name,
            programs,
            frozenset(own.addresses),
            {**snapshot.names(), "pods": texts},
            maps.explain_port,
            notes + [str(problem) for problem in maps.problems],
            pod_nodes={key: pod.node for key, pod in pods.items()},
        )


def _map_sizes(snapshot: Snapshot, settings: Settings) -> dict[str, int]:
    """Sizes that have room for every endpoint."""
    endpoints = sum(
        len(one.endpoints) * len(one.ports) for some in snapshot.slices.values() for one in some
    )
    return {
        "backends": 2 * endpoints + 1024,
        "slots": 4 * endpoints + 2048,
        "maglev": map_sizes(settings)["maglev"],
    }
