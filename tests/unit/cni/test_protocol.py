# SPDX-License-Identifier: Apache-2.0
"""What runtimes send, and what they are told."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubypass.cni.leases import Lease
from kubypass.cni.protocol import (
    Attachment,
    answer,
    attachments_in_use,
    error_answer,
    parse_request,
)
from kubypass.cni.result import add_result, differs_from
from kubypass.errors import CniError
from kubypass.model.address import parse_address

CONFIG = {"cniVersion": "1.0.0", "name": "kubypass", "type": "kubypass-cni"}
ENVIRONMENT = {
    "CNI_COMMAND": "ADD",
    "CNI_CONTAINERID": "abc",
    "CNI_NETNS": "/run/netns/x",
    "CNI_IFNAME": "eth0",
    "CNI_ARGS": "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web;K8S_POD_UID=u",
}


def request(environment: dict[str, str], config: object) -> bytes:
    variables = "".join(f"{name}={value}\0" for name, value in environment.items())
    text = config if isinstance(config, str) else json.dumps(config)
    return f"kubypass-cni 1\0{variables}\0{text}".encode()


def test_a_request_is_read() -> None:
    found = parse_request(request(ENVIRONMENT, CONFIG))
    assert found.command == "ADD"
    assert found.attachment == Attachment("abc", "eth0")
    assert found.pod == ("default", "web", "u")
    assert (found.netns, found.version) == ("/run/netns/x", "1.0.0")


def test_null_is_unset_in_the_configuration() -> None:
    sent = request(ENVIRONMENT, CONFIG | {"cniVersion": None, "prevResult": None, "dns": None})
    found = parse_request(sent)
    assert found.version == parse_request(request(ENVIRONMENT, {"name": "kubypass"})).version
    assert found.config.keys() == {"name", "type"}


@pytest.mark.parametrize(
    ("changes", "config", "code"),
    [
        ({"CNI_COMMAND": "JUMP"}, CONFIG, 4),
        ({"CNI_CONTAINERID": "-x"}, CONFIG, 4),
        ({"CNI_IFNAME": "lo"}, CONFIG, 4),
        ({"CNI_IFNAME": "a b"}, CONFIG, 4),
        ({"CNI_NETNS": ""}, CONFIG, 4),
        ({}, "", 6),
        ({}, "[]", 6),
        ({}, '{"cniVersion": ', 6),
        ({}, {**CONFIG, "cniVersion": "0.2.0"}, 1),
        ({}, {**CONFIG, "cniVersion": ["1.0.0"]}, 1),
        ({}, {"cniVersion": "1.0.0"}, 7),
        ({}, {**CONFIG, "name": "a/b"}, 7),
    ],
    ids=str,
)
def test_what_breaks_the_specification_is_refused(
    changes: dict[str, Any], config: object, code: int
) -> None:
    with pytest.raises(CniError) as caught:
        parse_request(request({**ENVIRONMENT, **changes}, config))
    assert caught.value.code == code


def test_a_deletion_needs_no_namespace() -> None:
    changes = {"CNI_COMMAND": "DEL", "CNI_NETNS": ""}
    assert parse_request(request({**ENVIRONMENT, **changes}, CONFIG)).netns == ""


@given(st.binary(max_size=300))
def test_no_bytes_are_more_than_refused(data: bytes) -> None:
    for text in (data, b"kubypass-cni 1\0" + data, b"kubypass-cni 1\0CNI_COMMAND=ADD\0\0" + data):
        with pytest.raises(CniError):
            parse_request(text)


def test_only_a_list_is_collected_by() -> None:
    key = "cni.dev/valid-attachments"
    gc = {"CNI_COMMAND": "GC"}
    one = {"containerID": "abc", "ifname": "eth0"}
    found = parse_request(request(gc, {**CONFIG, key: [one]}))
    assert attachments_in_use(found) == {Attachment("abc", "eth0")}
    assert attachments_in_use(parse_request(request(gc, {**CONFIG, key: []}))) == set()
    wrong: object
    for wrong in (None, {}, [5], [{"containerID": "abc"}]):
        with pytest.raises(CniError):
            attachments_in_use(parse_request(request(gc, {**CONFIG, key: wrong})))


def test_answers_say_how_long_they_are() -> None:
    assert answer(None) == b"0 0\n"
    assert answer({}) == b"0 3\n{}\n"
    head, _, body = error_answer(CniError(11, "later", "wait"), "1.1.0").partition(b"\n")
    assert head == b"1 %d" % len(body)
    expected = {"cniVersion": "1.1.0", "code": 11, "msg": "later", "details": "wait"}
    assert json.loads(body) == expected
    assert b'"1.0.0"' in error_answer(CniError(1, "no"), "77")


def test_interfaces_of_names_that_begin_alike_differ() -> None:
    def lease(name: str, ifname: str) -> Lease:
        return Lease(Attachment(name, ifname), "", "", "", "", "", ())

    names = [
        ("default-container-1", "eth0"),
        ("default-container-2", "eth0"),
        ("default-container-1", "net1"),
    ]
    made = [lease(*name) for name in names]
    for kind in ("interface", "mac", "node_mac"):
        assert len({getattr(one, kind) for one in made}) == 3
    assert all(len(one.interface) <= 15 for one in made)


def test_check_compares_with_what_was_told() -> None:
    lease = Lease(Attachment("abc", "eth0"), "", "", "", "", "", (parse_address("10.1.0.2"),))
    result = add_result(parse_request(request(ENVIRONMENT, CONFIG)), lease, 1500)
    assert differs_from(result, lease) == ""
    assert "10.1.0.2" in differs_from({"ips": []}, lease)
    assert differs_from(None, lease)
