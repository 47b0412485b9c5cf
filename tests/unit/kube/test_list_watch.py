# SPDX-License-Identifier: Apache-2.0
"""The requests for a resource, and the meaning of responses, byte by byte."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubypass.kube.client.failures import Refused
from kubypass.kube.watch.list_watch import Batch, ListWatch


class Thing(NamedTuple):
    name: str
    gone: bool
    version: str


def read(content: msgspec.Raw, gone: bool) -> Thing:
    metadata = json.loads(bytes(content))["metadata"]
    return Thing(metadata["name"], gone, metadata["resourceVersion"])


def event(kind: str, version: int, name: str = "", **metadata: Any) -> bytes:
    about = {"resourceVersion": str(version), **({"name": name} if name else {}), **metadata}
    return json.dumps({"type": kind, "object": {"metadata": about}}).encode() + b"\n"


def error(code: int, reason: str = "") -> bytes:
    status = {"kind": "Status", "code": code, "reason": reason, "message": "said so"}
    return json.dumps({"type": "ERROR", "object": status}).encode() + b"\n"


END = event("BOOKMARK", 9, annotations={"k8s.io/initial-events-end": "true"})


def listed() -> ListWatch[Thing]:
    made = ListWatch(read)
    made.next_request(1)
    made.read_lines(END)
    return made


def page(names: list[str], version: int = 5, following: str = "") -> bytes:
    items = [{"metadata": {"name": name, "resourceVersion": "1"}} for name in names]
    metadata = {"resourceVersion": str(version), "continue": following}
    return json.dumps({"metadata": metadata, "items": items}).encode()


def test_a_streaming_list_is_the_beginning_of_a_watch() -> None:
    made = ListWatch(read)
    request = made.next_request(300)
    assert request.is_watch
    assert request.starts_list
    assert dict(request.query) == {
        "watch": "1",
        "allowWatchBookmarks": "true",
        "timeoutSeconds": "300",
        "sendInitialEvents": "true",
        "resourceVersionMatch": "NotOlderThan",
    }
    assert made.read_lines(event("ADDED", 3, "a")) == Batch([Thing("a", False, "3")])
    assert made.read_lines(END + event("DELETED", 10, "a")) == Batch([Thing("a", True, "10")], True)
    assert dict(made.next_request(1).query)["resourceVersion"] == "10"
    assert not made.next_request(1).starts_list


def test_pages_follow_each_other_and_the_last_says_where_to_watch_from() -> None:
    made = ListWatch(read, streaming=False)
    assert made.next_request(1) == ((("limit", "500"),), False, True)
    assert not made.read_page(page(["a"], following="next")).list_finished
    assert made.next_request(1) == ((("limit", "500"), ("continue", "next")), False, False)
    assert made.read_page(page(["b"], 7)) == Batch([Thing("b", False, "1")], True)
    assert dict(made.next_request(1).query)["resourceVersion"] == "7"
    assert made.read_page(b'{"metadata":{"resourceVersion":"8"},"items":null}').items == []


def test_an_expired_page_begins_the_list_again() -> None:
    made = ListWatch(read, streaming=False)
    made.read_page(page(["a"], following="next"))
    assert made.handle_refusal(Refused("", 410, "Expired"))
    assert made.next_request(1).starts_list


@pytest.mark.parametrize("reason", ["Expired", "Gone", ""])
def test_a_version_that_is_forgotten_means_to_list_again_once_without_waiting(reason: str) -> None:
    made = listed()
    with pytest.raises(Refused) as caught:
        made.read_lines(error(410, reason))
    assert made.handle_refusal(caught.value)
    assert made.next_request(1).starts_list
    assert not made.handle_refusal(caught.value)
    made.read_lines(END)
    assert made.relists == 1


@pytest.mark.parametrize("code", [400, 422])
def test_a_server_without_streaming_lists_is_asked_for_pages(code: int) -> None:
    made = ListWatch(read)
    made.next_request(1)
    assert made.handle_refusal(Refused("sendInitialEvents is forbidden", code, "Invalid"))
    assert not made.next_request(1).is_watch
    assert not made.handle_refusal(Refused("again", code, "Invalid"))


def test_other_errors_leave_the_resource_version() -> None:
    made = listed()
    for code in (401, 403, 429, 500, 504):
        assert not made.handle_refusal(Refused("", code))
    with pytest.raises(Refused, match="said so"):
        made.read_lines(error(500))
    assert dict(made.next_request(1).query)["resourceVersion"] == "9"


def test_bookmarks_move_the_resource_version_forward_only() -> None:
    made = listed()
    made.read_lines(event("BOOKMARK", 12))
    assert dict(made.next_request(1).query)["resourceVersion"] == "12"
    with pytest.raises(Refused) as caught:
        made.read_lines(event("BOOKMARK", 11))
    assert made.handle_refusal(caught.value)
    assert made.next_request(1).starts_list


def test_a_streaming_list_that_breaks_begins_again() -> None:
    made = ListWatch(read)
    made.next_request(1)
    made.read_lines(event("ADDED", 3, "a"))
    assert made.next_request(1).starts_list


@pytest.mark.parametrize("line", [b"nonsense\n", b"{}\n", b'{"type":"BOOKMARK","object":{}}\n'])
def test_what_is_no_event_is_refused(line: bytes) -> None:
    with pytest.raises(Refused, match="no event of Kubernetes"):
        listed().read_lines(line)


def test_what_is_no_list_is_refused() -> None:
    with pytest.raises(Refused, match="no list of Kubernetes objects"):
        ListWatch(read, streaming=False).read_page(b"<html>")


@given(st.lists(st.integers(1, 40)))
def test_lines_may_be_cut_anywhere(cuts: list[int]) -> None:
    stream = b"".join(event("MODIFIED", 10 + at, f"n{at}") for at in range(6)) + b"\n"
    made, found, at = listed(), [], 0
    for cut in [*cuts, len(stream)]:
        found += made.read_lines(stream[at : at + cut]).items
        at += cut
    assert [thing.name for thing in found] == [f"n{at}" for at in range(6)]
