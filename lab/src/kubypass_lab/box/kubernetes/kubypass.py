# SPDX-License-Identifier: Apache-2.0
"""kubypass' image and manifests, from the checkout."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import yaml

from kubypass.errors import ConfigError
from kubypass_lab.box.files import Json
from kubypass_lab.box.kubernetes.programs import Say, alone
from kubypass_lab.box.process import run
from kubypass_lab.box.topology import Topology
from kubypass_lab.checkout import BUILD, CHECKOUT, MANIFESTS

_ADDRESS_PLACEHOLDER = "API-SERVER-ADDRESS"


def build_kubypass_image(say: Say) -> Path:
    """Make the image of this checkout if its sources changed. Returns its archive."""
    say("making image kubypass of this checkout")
    BUILD.mkdir(exist_ok=True)
    with alone(BUILD, say):
        run(["make", "-s", "-C", str(CHECKOUT), "image"])
    return BUILD / "image/kubypass.tar"


def kubypass_manifests(topology: Topology, settings: Path) -> str:
    """The manifests with the API server's address, and with `settings` in the ConfigMap.

    The pod CIDRs, which the guide passes as an argument, become settings.
    """
    text = MANIFESTS.read_text().replace(_ADDRESS_PLACEHOLDER, str(topology.gateway))
    documents = [cast("Json", each) for each in yaml.safe_load_all(text) if each]
    wanted = read_settings(settings)
    for cidr in topology.pod_cidrs:
        wanted[f"ipv{cidr.version}-native-routing-cidr"] = str(cidr)
    for document in documents:
        if document["kind"] == "ConfigMap":
            cast("dict[str, str]", document["data"]).update(wanted)
    return yaml.safe_dump_all(documents)


def read_settings(path: Path) -> dict[str, str]:
    """The keys and values of a settings file, as a ConfigMap holds them."""
    try:
        values = yaml.safe_load(path.read_text()) or {}
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}", "give settings with --settings") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected lines of KEY: VALUE")
    values = values.get("data", values)
    return {
        key: value if isinstance(value, str) else str(value).lower()
        for key, value in values.items()
    }
