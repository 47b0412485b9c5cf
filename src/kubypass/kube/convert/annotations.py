# SPDX-License-Identifier: Apache-2.0
"""Reads Cilium's annotations of Services and EndpointSlices. A wrong one is named, and leaves the default.

`service.cilium.io/type` may be a list with commas; Cilium allows one word only. External addresses are served whatever
it says, as in Cilium.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kubypass.model.annotation import WrongAnnotation
from kubypass.model.selector import Requirement, Selector, parse_selector
from kubypass.model.service import EXPOSE_ALL, Exposure

if TYPE_CHECKING:
    from collections.abc import Mapping

_PREFIX: Final = "service.cilium.io/"
TYPE: Final = f"{_PREFIX}type"
NODE: Final = f"{_PREFIX}node"
NODE_SELECTOR: Final = f"{_PREFIX}node-selector"
SOURCE_RANGES_POLICY: Final = f"{_PREFIX}src-ranges-policy"
FORWARDING_MODE: Final = f"{_PREFIX}forwarding-mode"
ALGORITHM: Final = f"{_PREFIX}lb-algorithm"
WEIGHT: Final = f"{_PREFIX}weight"
MAX_WEIGHT: Final = 65535
_LEFT_OUT: Final = "left out"
_MAX_SHOWN: Final = 100
"""Characters of a wrong value in a message, so that it leaves room for what was expected."""

_EXPOSURES: Final = {
    "ClusterIP": Exposure.CLUSTER_IP,
    "NodePort": Exposure.NODE_PORT,
    "LoadBalancer": Exposure.LOAD_BALANCER,
    "ExternalIP": Exposure(0),
}


def read_exposure(annotations: Mapping[str, str], wrong: list[WrongAnnotation]) -> Exposure:
    """The kinds of frontends that the Service has."""
    text = annotations.get(TYPE)
    if text is None:
        return EXPOSE_ALL
    found = Exposure(0)
    for word in text.split(","):
        one = _EXPOSURES.get(word.strip())
        if one is None:
            expected = ", ".join(_EXPOSURES)
            wrong.append(_wrong("exposure", TYPE, text, f"some of {expected}", _LEFT_OUT))
            return EXPOSE_ALL
        found |= one
    return found


def read_nodes(annotations: Mapping[str, str], wrong: list[WrongAnnotation]) -> Selector:
    """A selector of the nodes that serve the Service. NODE_SELECTOR takes precedence over NODE."""
    text = annotations.get(NODE_SELECTOR)
    if text is not None:
        try:
            return parse_selector(text)
        except ValueError as error:
            wrong.append(
                WrongAnnotation("nodes", f"annotation {NODE_SELECTOR}: {error}", _LEFT_OUT)
            )
            return ()
    value = annotations.get(NODE)
    return () if value is None else (Requirement(NODE, "in", (value,)),)


def read_source_deny(annotations: Mapping[str, str], wrong: list[WrongAnnotation]) -> bool:
    """Whether `loadBalancerSourceRanges` are denied; by default, only they are allowed."""
    text = annotations.get(SOURCE_RANGES_POLICY, "allow")
    if text.lower() not in {"allow", "deny"}:
        expected = "allow or deny"
        wrong.append(_wrong("source_deny", SOURCE_RANGES_POLICY, text, expected, "taken as allow"))
    return text.lower() == "deny"


def read_forwarding(annotations: Mapping[str, str], wrong: list[WrongAnnotation]) -> str:
    """How backends on other nodes are reached, `snat` or `dsr`; empty without the annotation."""
    text = annotations.get(FORWARDING_MODE, "")
    if text and text.lower() not in {"snat", "dsr"}:
        wrong.append(_wrong("forwarding", FORWARDING_MODE, text, "snat or dsr", _LEFT_OUT))
        return ""
    return text.lower()


def read_algorithm(annotations: Mapping[str, str], wrong: list[WrongAnnotation]) -> str:
    """How the Service selects backends, random or maglev; empty: as the settings say."""
    text = annotations.get(ALGORITHM, "")
    word = text.lower()
    if text and word not in {"random", "maglev"}:
        wrong.append(_wrong("algorithm", ALGORITHM, text, "random or maglev", _LEFT_OUT))
        return ""
    return word


def read_weight(annotations: Mapping[str, str], wrong: list[WrongAnnotation]) -> int:
    """The weight of each endpoint of the slice beside those of other slices; 0 keeps new connections away."""
    text = annotations.get(WEIGHT, "1").strip()
    if text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= MAX_WEIGHT:
        return int(text)
    expected = f"a whole number from 0 to {MAX_WEIGHT}"
    wrong.append(_wrong("weight", WEIGHT, text, expected, "taken as 1"))
    return 1


def _wrong(field: str, name: str, text: str, expected: str, otherwise: str) -> WrongAnnotation:
    shown = repr(text) if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]!r}…"
    return WrongAnnotation(field, f"annotation {name} is {shown}; expected {expected}", otherwise)
