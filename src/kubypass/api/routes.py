# SPDX-License-Identifier: Apache-2.0
"""Route tables: which page answers which path. Each listener of the server has one."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from kubypass.api.answer import Answer, json_answer, not_found, text_answer
from kubypass.api.metric import TEXT_FORMAT, render
from kubypass.api.view import View
from kubypass.errors import KubypassError

Page = Callable[[], Answer]
"""Any thread of the server may call it."""

_EXPLAIN = re.compile(r"/explain/([0-9]{1,10})/([12])")
_PATHS = "/status, /services, /pods, /metrics, /healthz, /names or /explain/SERVICE/LIST"


def _not_found(_: str) -> Answer:
    return not_found()


def _text_error(error: KubypassError) -> Answer:
    return text_answer(f"{error}\n", 503)


def _json_error(error: KubypassError) -> Answer:
    return json_answer({"error": str(error)}, 503)


@dataclass(frozen=True, slots=True)
class Routes:
    """The pages of one listener."""

    pages: Mapping[str, Page] = field(default_factory=dict)
    """Pages by their exact path."""
    otherwise: Callable[[str], Answer] = _not_found
    """The answer to every other path."""
    error: Callable[[KubypassError], Answer] = _text_error
    """The answer where a page raises."""
    quick: bool = True
    """Whether every page is made of what is in memory, in microseconds. Others are made in threads of their own."""

    def answer(self, path: str) -> Answer:
        """The answer to a request for `path`, which has no query."""
        try:
            page = self.pages.get(path)
            return page() if page else self.otherwise(path)
        except KubypassError as error:
            return self.error(error)


def agent_routes(view: View) -> Routes:
    """The agent's own API, which `kubypass status`, `service list`, `metrics` and `trace` ask."""

    def explain_or_not_found(path: str) -> Answer:
        asked = _EXPLAIN.fullmatch(path)
        if asked is None:
            return json_answer({"error": f"{path}: expected {_PATHS}"}, 404)
        explained = view.explain(int(asked[1]), int(asked[2]))
        return json_answer(explained, 200 if explained else 404)

    pages: dict[str, Page] = {
        "/status": lambda: json_answer(view.status()),
        "/services": lambda: json_answer({"services": view.services()}),
        "/pods": lambda: json_answer({"pods": view.pods()}),
        "/metrics": lambda: metrics_answer(view),
        "/healthz": lambda: _started_answer(view),
        "/names": lambda: json_answer(view.names()),
    }
    return Routes(pages, explain_or_not_found, _json_error, quick=False)


def metrics_answer(view: View) -> Answer:
    """Every metric, as Prometheus reads them."""
    return Answer(200, render(view.metrics()), TEXT_FORMAT)


def _started_answer(view: View) -> Answer:
    if view.started():
        return text_answer("ok\n")
    return text_answer("waiting for the first complete sync\n", 503)
