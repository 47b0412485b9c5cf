# SPDX-License-Identifier: Apache-2.0
"""Parses requests of container runtimes and frames answers: CNI 1.1.0, and 0.3.0 to 1.0.0 for runtimes that use them.

Specification: https://github.com/containernetworking/cni/blob/spec-v1.1.0/SPEC.md. The head of cni/kubypass-cni.c
describes how the plugin sends a request to the agent.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

from kubypass.errors import CniError

VERSIONS = ("0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
"""The plugin answers VERSION with the same list."""
_DEFAULT_VERSION = "1.0.0"
_MAGIC = b"kubypass-cni 1"
_CONTAINER_ID = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.\-]{0,1023}")
_INTERFACE = re.compile(r"[^\s/:%]{1,15}")
_INTERFACE_BYTES = 15
_POD = ("K8S_POD_NAMESPACE", "K8S_POD_NAME", "K8S_POD_UID")


class Code(IntEnum):
    """Error codes of the specification; codes above 99 are our own."""

    INCOMPATIBLE_VERSION = 1
    UNKNOWN_CONTAINER = 3
    INVALID_ENVIRONMENT = 4
    IO_FAILURE = 5
    DECODE_FAILURE = 6
    INVALID_CONFIGURATION = 7
    TRY_AGAIN_LATER = 11
    NOT_AVAILABLE = 50
    NOT_AS_MADE = 100
    """CHECK found a network that differs from what ADD made."""


@dataclass(frozen=True, slots=True)
class Attachment:
    """The runtime's name for one interface of one sandbox."""

    container_id: str
    ifname: str


@dataclass(frozen=True, slots=True)
class Request:
    """One request of a runtime."""

    command: str
    attachment: Attachment
    """Its names are empty for STATUS and GC."""
    netns: str
    """The runtime's path of the network namespace; empty where the namespace is gone."""
    pod: tuple[str, str, str]
    """Namespace, name and UID; empty where the runtime does not give them."""
    config: Mapping[str, object]
    version: str


def parse_request(data: bytes) -> Request:
    """Parses what the plugin sent; CniError where the runtime breaks the specification."""
    head, separator, config = data.partition(b"\0\0")
    magic, *variables = head.split(b"\0")
    if magic != _MAGIC or not separator:
        message = "the plugin speaks another protocol than the agent"
        raise CniError(Code.INCOMPATIBLE_VERSION, message, "replace kubypass-cni")
    given = dict(
        text.partition("=")[::2] for text in (v.decode("utf-8", "replace") for v in variables)
    )
    fields = _config(config)
    command = given.get("CNI_COMMAND", "")
    if command not in {"ADD", "DEL", "CHECK", "STATUS", "GC"}:
        _fail_environment("CNI_COMMAND", command, "ADD, DEL, CHECK, STATUS or GC")
    attachment = Attachment(given.get("CNI_CONTAINERID", ""), given.get("CNI_IFNAME", ""))
    if command in {"ADD", "DEL", "CHECK"}:
        _check(attachment)
    netns = given.get("CNI_NETNS", "")
    if command in {"ADD", "CHECK"} and not netns:
        _fail_environment("CNI_NETNS", "", "the path of the pod's network namespace")
    version = str(fields.get("cniVersion", _DEFAULT_VERSION))
    return Request(command, attachment, netns, _pod(given.get("CNI_ARGS", "")), fields, version)


def _fail_environment(name: str, value: str, expected: str) -> None:
    raise CniError(Code.INVALID_ENVIRONMENT, f"{name} is {value!r}; expected {expected}")


def _check(attachment: Attachment) -> None:
    if not _CONTAINER_ID.fullmatch(attachment.container_id):
        expected = "letters, digits, '_', '.' and '-'"
        _fail_environment("CNI_CONTAINERID", attachment.container_id, expected)
    name = attachment.ifname
    fits = _INTERFACE.fullmatch(name) and len(name.encode()) <= _INTERFACE_BYTES
    if not fits or name in {".", "..", "lo"}:
        expected = "the name of a new interface, at most 15 bytes"
        _fail_environment("CNI_IFNAME", attachment.ifname, expected)


def _config(text: bytes) -> dict[str, object]:
    try:
        fields = json.loads(text)
    except ValueError as error:
        raise CniError(
            Code.DECODE_FAILURE, f"the network configuration is not JSON: {error}"
        ) from None
    if not isinstance(fields, dict):
        raise CniError(Code.DECODE_FAILURE, "the network configuration is not a JSON object")
    fields = {name: value for name, value in fields.items() if value is not None}  # null is unset
    version = fields.get("cniVersion", _DEFAULT_VERSION)
    if version not in VERSIONS:
        message = (
            f"cniVersion is {version!r}; expected {', '.join(VERSIONS[:-1])} or {VERSIONS[-1]}"
        )
        raise CniError(Code.INCOMPATIBLE_VERSION, message)
    name = fields.get("name")
    if not isinstance(name, str) or not _CONTAINER_ID.fullmatch(name):
        message = f"name is {name!r}; expected letters, digits, '_', '.' and '-'"
        raise CniError(Code.INVALID_CONFIGURATION, message)
    return fields


def _pod(arguments: str) -> tuple[str, str, str]:
    """Parses CNI_ARGS, such as `K8S_POD_NAME=web;...`."""
    given = dict(part.partition("=")[::2] for part in arguments.split(";"))
    namespace, name, uid = (given.get(key, "") for key in _POD)
    return namespace, name, uid


def attachments_in_use(request: Request) -> set[Attachment]:
    """The attachments that a runtime still uses, as a GC request lists them."""
    key = "cni.dev/valid-attachments"
    found = request.config.get(key)
    if not isinstance(found, list):
        message = f"GC without {key!r}: nothing is removed; expected a list"
        raise CniError(Code.INVALID_CONFIGURATION, message)
    try:
        return {Attachment(str(one["containerID"]), str(one["ifname"])) for one in found}
    except (TypeError, KeyError):
        message = f"{key!r}: expected objects with containerID and ifname"
        raise CniError(Code.INVALID_CONFIGURATION, message) from None


def answer(result: Mapping[str, object] | None) -> bytes:
    """The answer for the plugin after success, with the result that it prints, if any."""
    return _framed(0, result)


def error_answer(error: CniError, version: str) -> bytes:
    """The answer for the plugin after a failure."""
    known = version if version in VERSIONS else _DEFAULT_VERSION
    fields = {"cniVersion": known, "code": int(error.code), "msg": error.message}
    return _framed(1, {**fields, "details": error.hint} if error.hint else fields)


def _framed(status: int, fields: Mapping[str, object] | None) -> bytes:
    body = json.dumps(fields).encode() + b"\n" if fields is not None else b""
    return b"%d %d\n%b" % (status, len(body), body)
