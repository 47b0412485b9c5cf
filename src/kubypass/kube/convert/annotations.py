# SPDX-License-Identifier: Apache-2.0
"""Reads Cilium's annotations of Services and EndpointSlices. A wrong value is noted, and the default stays.

`service.cilium.io/type` may be a list with commas; Cilium allows one word only. External addresses are served whatever
it says, as in Cilium.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

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

_EXPOSURES: Final = {
    "ClusterIP": Exposure.CLUSTER_IP,
    "NodePort": Exposure.NODE_PORT,
    "LoadBalancer": Exposure.LOAD_BALANCER,
    "ExternalIP": Exposure(0),
}


def read_exposure(annotations: Mapping[str, str], notes: list[str]) -> Exposure:
    """The kinds of frontends that the Service has."""
    text = annotations.get(TYPE)
    if text is None:
        return EXPOSE_ALL
    found = Exposure(0)
    for word in text.split(","):
        one = _EXPOSURES.get(word.strip())
        if one is None:
            expected = ", ".join(_EXPOSURES)
            notes.append(f"annotation {TYPE} is {text!r}; expected some of {expected}; left out")
            return EXPOSE_ALL
        found |= one
    return found


def read_nodes(annotations: Mapping[str, str], notes: list[str]) -> Selector:
    """A selector of the nodes that serve the Service. NODE_SELECTOR takes precedence over NODE."""
    text = annotations.get(NODE_SELECTOR)
    if text is not None:
        try:
            return parse_selector(text)
        except ValueError as error:
            notes.append(f"annotation {NODE_SELECTOR}: {error}; left out")
            return ()
    value = annotations.get(NODE)
    return () if value is None else (Requirement(NODE, "in", (value,)),)


def read_source_deny(annotations: Mapping[str, str], notes: list[str]) -> bool:
    """Whether `loadBalancerSourceRanges` are denied; by default, only they are allowed."""
    text = annotations.get(SOURCE_RANGES_POLICY, "allow")
    if text.lower() not in {"allow", "deny"}:
        notes.append(
            f"annotation {SOURCE_RANGES_POLICY} is {text!r}; expected allow or deny; taken as allow"
        )
    return text.lower() == "deny"


def read_forwarding(annotations: Mapping[str, str], notes: list[str]) -> str:
    """How backends on other nodes are reached, `snat` or `dsr`; empty without the annotation."""
    text = annotations.get(FORWARDING_MODE, "")
    if text and text.lower() not in {"snat", "dsr"}:
        notes.append(f"annotation {FORWARDING_MODE} is {text!r}; expected snat or dsr; left out")
        return ""
    return text.lower()


def read_algorithm(annotations: Mapping[str, str], notes: list[str]) -> str:
    """How the Service selects backends, random or maglev; empty: as the settings say."""
    text = annotations.get(ALGORITHM, "")
    word = text.lower()
    if text and word not in {"random", "maglev"}:
        notes.append(f"annotation {ALGORITHM} is {text!r}; expected random or maglev; left out")
        return ""
    return word


def read_weight(annotations: Mapping[str, str], notes: list[str]) -> int:
    """The weight of each endpoint of the slice beside those of other slices; 0 keeps new connections away."""
    text = annotations.get(WEIGHT, "1").strip()
    if text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= MAX_WEIGHT:
        return int(text)
    notes.append(
        f"annotation {WEIGHT} is {text!r}; expected a whole number from 0 to {MAX_WEIGHT}; taken as 1"
    )
    return 1
