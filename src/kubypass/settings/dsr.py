# SPDX-License-Identifier: Apache-2.0
"""Settings of DSR: whether backends on other nodes answer clients outside by themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from kubypass.model.protocol import Protocol
from kubypass.model.verdict import DsrDispatch
from kubypass.settings.key import Kind, setting
from kubypass.settings.kinds import SWITCH
from kubypass.settings.parse import parse_choice, parse_size

_MODES = ("snat", "dsr", "hybrid")
AUTO: Final = "auto"
_WAYS: Final = {
    "opt": (DsrDispatch.OPTION,),
    "geneve": (DsrDispatch.GENEVE,),
    AUTO: (DsrDispatch.OPTION, DsrDispatch.GENEVE),
}
_NO_IPIP: Final = (
    "ipip: IPIP has no place for the backend's port, which in a cluster is seldom the service's (Cilium has it for "
    "load balancers whose backends own the service's address); use geneve or auto"
)


def parse_dispatch(text: str) -> str:
    """Read a dispatch; Cilium's ipip is refused by name."""
    if text == "ipip":
        raise ValueError(_NO_IPIP)
    return parse_choice(*_WAYS)(text)


@dataclass(frozen=True, slots=True)
class DsrSettings:
    """How clients outside reach a backend on another node."""

    mode: str = setting(
        "bpf-lb-mode", Kind("word", parse_choice(*_MODES)), "snat", "snat",
        "How clients outside reach backends on other nodes. snat: with this node's address, and answers pass this "
        "node. dsr: with their own, and the backend's node answers them (TCP and UDP; SCTP is masqueraded). hybrid: "
        "dsr for TCP, snat for UDP.", choices=_MODES,
    )  # fmt: skip
    dispatch: str = setting(
        "bpf-lb-dsr-dispatch", Kind("word", parse_dispatch), "opt", "opt",
        "How the backend's node learns the frontend. opt: by an IPv4 option or an IPv6 destination option. geneve: "
        "all packets of the client go to that node in Geneve (UDP port 6081, 62 bytes more, 94 for IPv6). auto: opt "
        "where it arrives, else geneve. With each node it is tried out again and again what arrives; where nothing "
        "does, snat is used, which is a problem with opt and geneve, and none with auto. Cilium's ipip is refused: it "
        "has no place for the backend's port.",
        choices=tuple(_WAYS),
    )  # fmt: skip
    annotation: bool = setting(
        "bpf-lb-mode-annotation", SWITCH, False, "false",
        "The annotation service.cilium.io/forwarding-mode of a Service, snat or dsr, takes precedence over "
        "bpf-lb-mode.",
    )  # fmt: skip

    probe_port: int = setting(
        "dsr-probe-port", Kind("port", parse_size(1024, 65535)), 9969, "9969",
        "The UDP port at which agents ask each other whether DSR's packets arrive; alike on all nodes, and open "
        "between them. Not one of Cilium's keys.",
    )  # fmt: skip

    @property
    def wanted(self) -> bool:
        """Whether some service may be in DSR mode."""
        return self.mode != "snat" or self.annotation

    @property
    def dispatches(self) -> tuple[DsrDispatch, ...]:
        """The ways to tell the other node the frontend; the first that arrives there is used."""
        return _WAYS[self.dispatch]

    @property
    def tunnels(self) -> bool:
        """Whether packets of other nodes may come in a tunnel."""
        return self.wanted and DsrDispatch.GENEVE in self.dispatches

    def is_direct(self, forwarding: str, protocol: Protocol) -> bool:
        """Whether a service port is in DSR mode; `forwarding` is the word of its annotation, or empty."""
        mode = forwarding if self.annotation and forwarding else self.mode
        return protocol in {"dsr": {Protocol.TCP, Protocol.UDP}, "hybrid": {Protocol.TCP}}.get(
            mode, set()
        )
