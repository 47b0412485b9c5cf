# SPDX-License-Identifier: Apache-2.0
"""Makes the Pod objects that agents read. Pure."""

from __future__ import annotations

import time

from kubypass_lab.box.files import Json
from kubypass_lab.box.objects import Container
from kubypass_lab.box.record import PodRecord


def describe_pod(pod: PodRecord) -> Json:
    """The Pod as an API server has it, limited to the fields that agents read."""
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(pod.created))
    # Agents only read whether there is a time.
    ending = {"deletionTimestamp": created} if pod.state == "terminating" else {}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "namespace": pod.namespace,
            "name": pod.name,
            "uid": pod.uid,
            "creationTimestamp": created,
            "labels": pod.labels,
            **ending,
        },
        "spec": {
            "nodeName": pod.node,
            "containers": [_describe_container(each) for each in pod.containers],
        },
        "status": {
            "phase": "Pending" if pod.state == "starting" else "Running",
            "podIP": pod.addresses[0],
            "podIPs": [{"ip": address} for address in pod.addresses],
        },
    }


def _describe_container(container: Container) -> Json:
    return {
        "name": container.name,
        "image": container.image,
        "ports": [
            {
                "containerPort": port.container_port,
                "protocol": port.protocol,
                **({"name": port.name} if port.name else {}),
                **({"hostPort": port.host_port} if port.host_port else {}),
                **({"hostIP": port.host_ip} if port.host_ip else {}),
            }
            for port in container.ports or ()
        ],
    }
