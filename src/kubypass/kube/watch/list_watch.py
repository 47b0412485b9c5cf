# SPDX-License-Identifier: Apache-2.0
"""The list-and-watch protocol of one resource: the next request, and what responses mean. No I/O, no clock.

The resource is listed first: by a watch that starts with all objects if the server offers that (KEP-3157, "streaming
lists"), else page by page. A watch from the list's resource version follows. Bookmarks advance the version from which
a broken watch continues. If the server has forgotten a version (410 Gone), or is behind it (a restored backup), the
resource is listed again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from http.client import BAD_REQUEST, UNPROCESSABLE_ENTITY
from typing import Final, Generic, NamedTuple, Protocol, TypeVar

import msgspec

from kubypass.kube.client.failures import Refused, read_refusal

PAGE: Final = 500
_LIST_END: Final = "k8s.io/initial-events-end"
"""The annotation of the bookmark that ends a streaming list."""


class Versioned(Protocol):
    """What was read from an object."""

    @property
    def version(self) -> str:
        """The `resourceVersion`; empty if it could not be read."""


Item = TypeVar("Item", bound=Versioned)


class Request(NamedTuple):
    """A list request or a watch request."""

    query: tuple[tuple[str, str], ...]
    is_watch: bool
    """The response is an endless stream of lines."""
    starts_list: bool
    """A complete list starts with this response."""


@dataclass(slots=True)
class Batch(Generic[Item]):
    """The objects of a part of a response."""

    items: list[Item]
    list_finished: bool = False
    """The list is complete with this batch."""


class _Event(msgspec.Struct, gc=False):
    type: str
    object: msgspec.Raw


class _Metadata(msgspec.Struct, gc=False, rename="camel"):
    resource_version: str = ""
    annotations: dict[str, str] | None = None
    continue_: str | None = msgspec.field(default=None, name="continue")


class _Meta(msgspec.Struct, gc=False):
    metadata: _Metadata


class _Page(msgspec.Struct, gc=False):
    metadata: _Metadata
    items: list[msgspec.Raw] | None = None


_PAGES: Final = msgspec.json.Decoder(_Page)
_EVENTS: Final = msgspec.json.Decoder(_Event)
_METAS: Final = msgspec.json.Decoder(_Meta)


class ListWatch(Generic[Item]):
    """The protocol of one resource. `read` reads an object; its second argument says whether the object was deleted."""

    def __init__(
        self, read: Callable[[msgspec.Raw, bool], Item], *, streaming: bool = True
    ) -> None:
        self.streaming = streaming
        """Whether the server is new enough for streaming lists."""
        self.relists = 0
        """How often the resource was listed again."""
        self._read = read
        self._version = ""
        self._continue = ""
        self._rest = b""
        self._listed_once = False
        self._streaming_allowed = True

    def next_request(self, timeout_s: int) -> Request:
        """The next request. The server ends a watch after `timeout_s`."""
        self._rest = b""
        watch = (
            ("watch", "1"),
            ("allowWatchBookmarks", "true"),
            ("timeoutSeconds", str(timeout_s)),
        )
        if self._version:
            return Request((*watch, ("resourceVersion", self._version)), True, False)
        if self.streaming and self._streaming_allowed:
            initial = (("sendInitialEvents", "true"), ("resourceVersionMatch", "NotOlderThan"))
            return Request((*watch, *initial), True, True)
        pages = (("limit", str(PAGE)),)
        if self._continue:
            return Request((*pages, ("continue", self._continue)), False, False)
        return Request(pages, False, True)

    def read_page(self, body: bytes) -> Batch[Item]:
        """Reads a page of a list. Raises Refused if it is not one."""
        try:
            page = _PAGES.decode(body)
        except msgspec.DecodeError as error:
            raise Refused(f"no list of Kubernetes objects: {error}", 0) from None
        items = [self._read(item, False) for item in page.items or ()]
        self._continue = page.metadata.continue_ or ""
        if not self._continue:
            self._finish_list(page.metadata.resource_version)
        return Batch(items, not self._continue)

    def read_lines(self, data: bytes) -> Batch[Item]:
        """Reads the next bytes of a watch. Raises Refused for an ERROR event, and for bytes that are no events."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        batch: Batch[Item] = Batch([])
        for line in lines:
            if line.strip():
                try:
                    self._event(_EVENTS.decode(line), batch)
                except msgspec.DecodeError as error:
                    raise Refused(f"no event of Kubernetes: {error}", 0) from None
        return batch

    def _event(self, event: _Event, batch: Batch[Item]) -> None:
        if event.type == "ERROR":
            raise read_refusal(event.object, 0)
        if event.type == "BOOKMARK":
            self._bookmark(_METAS.decode(event.object).metadata, batch)
            return
        item = self._read(event.object, event.type == "DELETED")
        batch.items.append(item)
        if self._version and item.version:
            self._version = item.version

    def _bookmark(self, metadata: _Metadata, batch: Batch[Item]) -> None:
        version = metadata.resource_version
        if _LIST_END in (metadata.annotations or {}):
            self._finish_list(version)
            batch.list_finished = True
        elif self._version:
            if _is_before(version, self._version):
                raise Refused("the server's history ends before ours", 410, "Expired")
            self._version = version

    def _finish_list(self, version: str) -> None:
        self.relists += self._listed_once
        self._listed_once = True
        self._version, self._continue = version, ""

    def handle_refusal(self, refusal: Refused) -> bool:
        """Notes that the server refused a request. Returns whether another request follows at once."""
        if refusal.expired:
            known, self._version, self._continue = self._version or self._continue, "", ""
            return bool(known)
        listing = not self._version and self.streaming and self._streaming_allowed
        if listing and refusal.code in {BAD_REQUEST, UNPROCESSABLE_ENTITY}:
            self._streaming_allowed = False  # the feature is switched off in the server
            return True
        return False


def _is_before(version: str, other: str) -> bool:
    """Compares resource versions: by contract since Kubernetes 1.35 (KEP-5504), before that as etcd counts them."""
    return version.isdigit() and other.isdigit() and int(version) < int(other)
