# SPDX-License-Identifier: Apache-2.0
"""Follows one collection of the API: what to ask next, and what the answers mean. No I/O, no clock.

First everything is listed: as the beginning of a watch where the server offers that (KEP-3157, "streaming lists"),
else page by page. Then changes are watched from there. Bookmarks move the place from which a broken watch goes on.
A place that the server has forgotten (410 Gone), or that lies ahead of the server (a restored backup), means to list
again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from http.client import BAD_REQUEST, UNPROCESSABLE_ENTITY
from typing import Final, Generic, NamedTuple, Protocol, TypeVar

import msgspec

from kubypass.kube.client.failures import Refused, read_refusal

PAGE: Final = 500
_LISTED: Final = "k8s.io/initial-events-end"
"""Annotation of the bookmark that ends a streaming list."""


class Versioned(Protocol):
    """A thing that was read from an object."""

    @property
    def version(self) -> str:
        """resourceVersion; empty where it could not be read."""


Thing = TypeVar("Thing", bound=Versioned)


class Question(NamedTuple):
    """A request."""

    query: tuple[tuple[str, str], ...]
    watching: bool
    """The answer comes as lines, without end."""
    begins: bool
    """What is listed from here on is everything."""


@dataclass(slots=True)
class Step(Generic[Thing]):
    """What an answer said."""

    items: list[Thing]
    complete: bool = False
    """Everything has been listed."""


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


class ListWatch(Generic[Thing]):
    """Of one collection. `read` makes a thing of an object; `gone` says that it was deleted."""

    def __init__(
        self, read: Callable[[msgspec.Raw, bool], Thing], *, streaming: bool = True
    ) -> None:
        self.streaming = streaming
        """Whether the server is new enough to be asked for a streaming list."""
        self.relists = 0
        """How often everything was listed again."""
        self._read = read
        self._version = ""
        self._continue = ""
        self._rest = b""
        self._listed_once = False
        self._streams = True

    def question(self, timeout_s: int) -> Question:
        """What to ask next; a watch is to be ended by the server after so many seconds."""
        self._rest = b""
        watch = (
            ("watch", "1"),
            ("allowWatchBookmarks", "true"),
            ("timeoutSeconds", str(timeout_s)),
        )
        if self._version:
            return Question((*watch, ("resourceVersion", self._version)), True, False)
        if self.streaming and self._streams:
            initial = (("sendInitialEvents", "true"), ("resourceVersionMatch", "NotOlderThan"))
            return Question((*watch, *initial), True, True)
        pages = (("limit", str(PAGE)),)
        if self._continue:
            return Question((*pages, ("continue", self._continue)), False, False)
        return Question(pages, False, True)

    def page(self, body: bytes) -> Step[Thing]:
        """The answer to a question that is no watch. Refused for one that makes no sense."""
        try:
            page = _PAGES.decode(body)
        except msgspec.DecodeError as error:
            raise Refused(f"no list of Kubernetes objects: {error}", 0) from None
        items = [self._read(item, False) for item in page.items or ()]
        self._continue = page.metadata.continue_ or ""
        if not self._continue:
            self._listed(page.metadata.resource_version)
        return Step(items, not self._continue)

    def lines(self, data: bytes) -> Step[Thing]:
        """Some more bytes of a watch's answer. Refused for what the server says in it, or what makes no sense."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        step: Step[Thing] = Step([])
        for line in lines:
            if line.strip():
                try:
                    self._event(_EVENTS.decode(line), step)
                except msgspec.DecodeError as error:
                    raise Refused(f"no event of Kubernetes: {error}", 0) from None
        return step

    def _event(self, event: _Event, step: Step[Thing]) -> None:
        if event.type == "ERROR":
            raise read_refusal(event.object, 0)
        if event.type == "BOOKMARK":
            self._bookmark(_METAS.decode(event.object).metadata, step)
            return
        thing = self._read(event.object, event.type == "DELETED")
        step.items.append(thing)
        if self._version and thing.version:
            self._version = thing.version

    def _bookmark(self, metadata: _Metadata, step: Step[Thing]) -> None:
        version = metadata.resource_version
        if _LISTED in (metadata.annotations or {}):
            self._listed(version)
            step.complete = True
        elif self._version:
            if _is_before(version, self._version):
                raise Refused("the server's history ends before ours", 410, "Expired")
            self._version = version

    def _listed(self, version: str) -> None:
        self.relists += self._listed_once
        self._listed_once = True
        self._version, self._continue = version, ""

    def refused(self, refusal: Refused) -> bool:
        """The server said no; whether another question follows from that, which is no fault."""
        if refusal.expired:
            known, self._version, self._continue = self._version or self._continue, "", ""
            return bool(known)
        listing = not self._version and self.streaming and self._streams
        if listing and refusal.code in {BAD_REQUEST, UNPROCESSABLE_ENTITY}:
            self._streams = False  # the server has the feature switched off
            return True
        return False


def _is_before(version: str, other: str) -> bool:
    """Resource versions can be compared since Kubernetes 1.35 by contract (KEP-5504), before by what etcd does."""
    return version.isdigit() and other.isdigit() and int(version) < int(other)
