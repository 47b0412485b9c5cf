# SPDX-License-Identifier: Apache-2.0
"""Settings of load balancing at sockets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kubypass.model.selector import parse_selector
from kubypass.settings.key import Kind, setting
from kubypass.settings.kinds import NAMES, SWITCH
from kubypass.settings.parse import parse_optional_bool

if TYPE_CHECKING:
    from kubypass.model.selector import Selector


@dataclass(frozen=True, slots=True)
class SocketSettings:
    """Whose sockets are load balanced, and which are closed when their backend is gone."""

    load_balancing: bool | None = setting(
        "bpf-lb-sock", Kind("true or false", parse_optional_bool), None, "",
        "Chooses the backend when a socket connects. Unset: on, unless kube-proxy-replacement is "
        "false. false: packet by packet, at the pod's interface.",
    )  # fmt: skip
    host_only: bool = setting(
        "bpf-lb-sock-hostns-only", SWITCH, False, "false",
        "Load balances only the sockets of the node's processes; pods are translated packet by packet.",
    )  # fmt: skip
    close_in_pods: bool = setting(
        "bpf-lb-sock-terminate-pod-connections", SWITCH, True, "true",
        "Closes connected UDP sockets of pods when their backend is gone. false: only those of the node.",
    )  # fmt: skip
    close_all_protocols: bool = setting(
        "bpf-lb-sock-terminate-all-protos", SWITCH, False, "false",
        "Also closes TCP connections when their backend is gone.",
    )  # fmt: skip
    excluded_pods: Selector = setting(  # noqa: RUF009
        "bpf-lb-sock-exclude-pods", Kind("label selector", parse_selector), (), "",
        "Pods whose sockets are not load balanced, such as those of a service mesh; their packets are "
        "translated instead. Not one of Cilium's keys.", live=True,
    )  # fmt: skip
    excluded_runtime_classes: tuple[str, ...] = setting(
        "bpf-lb-sock-exclude-runtime-classes", NAMES, (), "",
        "As bpf-lb-sock-exclude-pods, by runtime class. VMs and gVisor do not need it: their sockets are "
        "not the kernel's.", live=True,
    )  # fmt: skip
