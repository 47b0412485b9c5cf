# SPDX-License-Identifier: Apache-2.0
"""Applies, deletes and scales objects of a box, as kubectl does in a cluster."""

from __future__ import annotations

import copy
import hashlib
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from kubypass.errors import ConfigError, KubypassError
from kubypass_lab.box import deploy
from kubypass_lab.box.addressing import complete_service
from kubypass_lab.box.box import Box
from kubypass_lab.box.files import Json, locked, mapping, read_all, read_json, write_json
from kubypass_lab.box.object_files import Applied, read_objects
from kubypass_lab.box.objects import KINDS, EndpointPort, EndpointSlice, Service

Say = Callable[[str], None]


def apply_files(box: Box, files: list[Path], say: Say) -> None:
    """Apply all objects of `files`. Errors are raised after all valid objects are applied."""
    with locked(box.paths.root):
        reading = read_objects(files)
        if reading.skipped:
            say(f"warning: skipped, a box does not run these: {', '.join(reading.skipped)}")
        errors: list[KubypassError] = list(reading.errors)
        for applied in reading.objects:
            try:
                say(f"{applied.resource}/{applied.object.metadata.name} {_store(box, applied)}")
            except ConfigError as error:
                errors.append(error)
        failures = deploy.reconcile(box, say)
        errors += [KubypassError(line) for line in failures]
    _raise_all(errors, say)


def scale(box: Box, target: str, replicas: int, say: Say) -> None:
    """Change the replicas of `deployment/NAME` (or `deployment/NAMESPACE/NAME`)."""
    kind, _, name = target.partition("/")
    if kind not in ("deployment", "deployments", "deploy", "deployment.apps") or not name:
        raise ConfigError(f"{target}: only Deployments scale", "say deployment/NAME")
    if not 0 <= replicas <= 1000:
        raise ConfigError(f"--replicas {replicas}: expected a number from 0 to 1000")
    namespace, _, name = name.rpartition("/")
    with locked(box.paths.root):
        path = box.paths.objects / f"deployment.apps_{namespace or 'default'}_{name}.json"
        raw = read_json(path)
        if raw is None:
            raise KubypassError(
                f"deployment {name} does not exist in box {box.paths.name}",
                f"see: kubypass box list --name {box.paths.name}",
            )
        changed = copy.deepcopy(raw)
        mapping(changed["spec"])["replicas"] = replicas
        write_json(path, changed)
        failures = deploy.reconcile(box, say)
    say(f"deployment.apps/{name} scaled")
    _raise_all([KubypassError(line) for line in failures], say)


def delete(box: Box, target: str, say: Say) -> None:
    """Delete `KIND/NAME` (or `KIND/NAMESPACE/NAME`) and the pods that the object asked for."""
    kind, _, name = target.partition("/")
    resource = _RESOURCES.get(kind)
    if resource is None or not name:
        raise ConfigError(f"{target}: expected KIND/NAME", f"kinds are {', '.join(_RESOURCES)}")
    namespace, _, name = name.rpartition("/")
    file = f"{resource}_{namespace or 'default'}_{name}.json"
    with locked(box.paths.root):
        path = box.paths.objects / file
        if not path.is_file():
            raise KubypassError(
                f"{target} does not exist in box {box.paths.name}",
                f"see: kubypass box list --name {box.paths.name}",
            )
        path.unlink()
        (box.paths.manifests / file).unlink(missing_ok=True)
        failures = deploy.reconcile(box, say)
    say(f"{resource}/{name} deleted")
    _raise_all([KubypassError(line) for line in failures], say)


_RESOURCES = {
    short: resource
    for _, resource in KINDS.values()
    for short in dict.fromkeys((resource.partition(".")[0], resource))
}


def _raise_all(errors: list[KubypassError], say: Say) -> None:
    """Print all errors but the last, and raise the last."""
    for error in errors[:-1]:
        say(f"error: {error}")
    if errors:
        raise errors[-1]


def _store(box: Box, applied: Applied) -> str:
    """Store one object and what agents see of it. Returns created, configured or unchanged."""
    path = box.paths.objects / f"{applied.key}.json"
    raw = _normalise(applied)
    if isinstance(applied.object, Service):
        _store_service(box, applied, applied.object)
    elif isinstance(applied.object, EndpointSlice):
        completed = {**raw, "ports": [_complete_port(port) for port in applied.object.ports or ()]}
        write_json(box.paths.manifests / f"{applied.key}.json", completed)
    existed = path.is_file()
    changed = write_json(path, raw)
    return "created" if not existed else "configured" if changed else "unchanged"


def _complete_port(port: EndpointPort) -> Json:
    """A slice's port with an API server's defaults: the default name is empty."""
    return {"name": port.name or "", "protocol": port.protocol or "TCP", "port": port.port}


def _normalise(applied: Applied) -> Json:
    """The object as it was written, with an explicit namespace."""
    return {**applied.raw, "metadata": {"namespace": "default", **_metadata(applied.raw)}}


def _metadata(raw: Json) -> Json:
    return dict(mapping(raw.get("metadata")))


def _store_service(box: Box, applied: Applied, service: Service) -> None:
    path = box.paths.manifests / f"{applied.key}.json"
    stored = read_json(path)
    old = msgspec.convert(stored, Service) if stored else None
    manifests = read_all(box.paths.manifests)
    services = [msgspec.convert(raw, Service) for raw in manifests if raw.get("kind") == "Service"]
    others = [each for each in services if _name(each) != _name(service)]
    completed = complete_service(applied, service, old, others, box.topology.service_cidrs)
    if service.spec.type == "LoadBalancer" and "status" not in completed and stored:
        completed["status"] = stored.get("status", {"loadBalancer": {}})
    metadata, old_metadata = _metadata(_normalise(applied)), _metadata(stored or {})
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    metadata["creationTimestamp"] = old_metadata.get("creationTimestamp", now)
    metadata["uid"] = old_metadata.get("uid") or _uid(applied)
    write_json(path, {**completed, "metadata": metadata})


def _name(service: Service) -> tuple[str, str]:
    return service.metadata.namespace, service.metadata.name


def _uid(applied: Applied) -> str:
    digest = hashlib.sha256(f"{applied.key} {time.time_ns()}".encode()).hexdigest()
    return f"{digest[:8]}-{digest[8:12]}-{digest[12:16]}-{digest[16:20]}-{digest[20:32]}"
