# SPDX-License-Identifier: Apache-2.0
"""How settings that name something are read: devices, labels, API servers. A ValueError says what is allowed."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urlsplit

from kubypass.model.address import parse_address
from kubypass.settings.parse import parse_words

_DEVICE_BYTES: Final = 15
_NAME: Final = r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_LABEL: Final = re.compile(_NAME)
_LABEL_KEY: Final = re.compile(rf"([a-z0-9]([-a-z0-9.]{{0,251}}[a-z0-9])?/)?{_NAME}")
_HOST: Final = re.compile(r"[A-Za-z0-9_]([-A-Za-z0-9_.]{0,251}[A-Za-z0-9_.])?")


def parse_devices(text: str) -> tuple[str, ...]:
    """Read names of devices; a trailing + stands for any ending, a leading ! leaves them out."""
    words = parse_words(text)
    for word in (each.removeprefix("!") for each in words):
        if word == "+":
            msg = (
                "+ alone stands for every device, the pods' too; write names, such as eth0 or eth+"
            )
            raise ValueError(msg)
        if (
            word in {"lo", ".", ".."}
            or not word
            or "/" in word
            or len(word.encode()) > _DEVICE_BYTES
        ):
            msg = f"{word!r} is no name of an uplink: expected at most {_DEVICE_BYTES} bytes, no slash, and not lo"
            raise ValueError(msg)
    return words


def parse_device(text: str) -> str:
    """Read the name of one device, or nothing."""
    words = parse_devices(text)
    if len(words) > 1 or text.endswith("+") or text.startswith("!"):
        msg = "expected one device, such as eth0"
        raise ValueError(msg)
    return words[0] if words else ""


def parse_label_value(text: str) -> str:
    """Read the value of a label, which may be empty."""
    if text and not _LABEL.fullmatch(text):
        msg = "expected the value of a label: at most 63 letters, digits, and - _ . between them"
        raise ValueError(msg)
    return text


def parse_label_key(text: str) -> str:
    """Read the key of a label or taint, which may be empty."""
    if text and not _LABEL_KEY.fullmatch(text):
        msg = "expected the key of a taint, such as node.kubypass.io/agent-not-ready"
        raise ValueError(msg)
    return text


def parse_urls(text: str) -> tuple[str, ...]:
    """Read URLs of API servers; the scheme may be left out."""
    words = parse_words(text)
    for word in words:
        if not _is_server(word):
            msg = f"{word!r} is no address of an API server: expected https://HOST:PORT, an IPv6 address in brackets"
            raise ValueError(msg)
    return words


def _is_server(url: str) -> bool:
    try:
        found = urlsplit(url if "://" in url else f"https://{url}")
        host, port = found.hostname or "", found.port
    except ValueError:
        return False
    if (
        port == 0
        or found.scheme not in {"http", "https"}
        or found.username
        or found.query
        or found.fragment
    ):
        return False
    if ":" in host or not host.strip("0123456789."):
        try:
            parse_address(host)
        except ValueError:
            return False
        return True
    return _HOST.fullmatch(host) is not None
