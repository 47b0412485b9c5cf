# SPDX-License-Identifier: Apache-2.0
"""The control plane that a box makes: its controllers work, and who may do what is enforced."""

from __future__ import annotations

import json

from kubypass_lab.box.kubernetes.cluster import Cluster, open_cluster
from kubypass_lab.box.kubernetes.kubectl import kubectl, try_kubectl


def test_it_is_found_again(control_plane: Cluster) -> None:
    assert open_cluster(control_plane.paths.name) == control_plane


def test_the_api_server_says_its_version(control_plane: Cluster) -> None:
    version = json.loads(kubectl(control_plane.paths, "version", "-o", "json"))
    assert version["serverVersion"]["gitVersion"] == "v1.34.4"


def test_the_service_of_the_api_has_its_real_address(control_plane: Cluster) -> None:
    said = kubectl(
        control_plane.paths, "get", "endpointslices", "-l", "kubernetes.io/service-name=kubernetes",
        "-o", "jsonpath={.items[*].endpoints[*].addresses[*]}",
    )  # fmt: skip
    assert said == str(control_plane.topology.gateway)


def test_service_accounts_may_do_nothing_at_first(control_plane: Cluster) -> None:
    account = "--as=system:serviceaccount:default:default"
    answer = try_kubectl(control_plane.paths, "auth", "can-i", "list", "pods", account)
    assert answer.stdout.strip() == "no"
