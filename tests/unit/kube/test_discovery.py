# SPDX-License-Identifier: Apache-2.0
"""Paths of objects by API discovery, from a server that answers as Kubernetes does."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from kubypass.errors import KubeError
from kubypass.kube.client.access import Access, Trust, parse_server
from kubypass.kube.client.client import Client
from kubypass.kube.client.credentials import FixedToken
from kubypass.kube.client.rest import Rest


def resource(name: str, kind: str, *, namespaced: bool) -> dict[str, object]:
    verbs = ["create", "delete", "get", "list", "patch", "update", "watch"]
    return {
        "name": name,
        "singularName": kind.lower(),
        "namespaced": namespaced,
        "kind": kind,
        "verbs": verbs,
    }


SERVED = {
    "/api/v1": [
        resource("endpoints", "Endpoints", namespaced=True),
        resource("namespaces", "Namespace", namespaced=False),
        resource("namespaces/status", "Namespace", namespaced=False),
        resource("nodes/proxy", "NodeProxyOptions", namespaced=False),
        resource("pods", "Pod", namespaced=True),
        resource("pods/ephemeralcontainers", "Pod", namespaced=True),
        resource("services", "Service", namespaced=True),
    ],
    "/apis/networking.k8s.io/v1": [
        resource("ingressclasses", "IngressClass", namespaced=False),
        resource("networkpolicies", "NetworkPolicy", namespaced=True),
    ],
    "/apis/empty.example/v1": None,
}


class Server(ThreadingHTTPServer):
    """Remembers what it was asked for."""

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(address, handler)
        self.asked: list[str] = []


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        body: object
        code, body = 200, {"kind": "APIResourceList", "resources": SERVED.get(self.path)}
        if self.path == "/apis/odd.example/v1":
            body = ["no list"]
        elif self.path not in SERVED:
            code, message = 404, "the server could not find the requested resource"
            body = {"kind": "Status", "status": "Failure", "reason": "NotFound", "message": message}
        text = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=made.serve_forever, args=(0.01,))
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


@pytest.fixture
def rest(server: Server) -> Rest:
    address = parse_server(f"http://127.0.0.1:{server.server_port}", "test")
    return Rest(Client(Access((address,), Trust(), FixedToken(), "test", "change it")))


def item(
    api_version: str, kind: str, name: str, namespace: str | None = "default"
) -> dict[str, Any]:
    metadata = {"name": name} | ({"namespace": namespace} if namespace else {})
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata}


@pytest.mark.parametrize(
    ("what", "path"),
    [
        (item("v1", "Service", "web"), "/api/v1/namespaces/default/services/web"),
        (item("v1", "Pod", "a"), "/api/v1/namespaces/default/pods/a"),
        (item("v1", "Endpoints", "web"), "/api/v1/namespaces/default/endpoints/web"),
        (item("v1", "Namespace", "shop", None), "/api/v1/namespaces/shop"),
        (
            item("networking.k8s.io/v1", "NetworkPolicy", "deny"),
            "/apis/networking.k8s.io/v1/namespaces/default/networkpolicies/deny",
        ),
        (
            item("networking.k8s.io/v1", "IngressClass", "a b", None),
            "/apis/networking.k8s.io/v1/ingressclasses/a%20b",
        ),
    ],
    ids=lambda value: value["kind"] if isinstance(value, dict) else "",
)
def test_paths_have_the_plural_that_the_server_lists(
    rest: Rest, what: dict[str, dict[str, str] | str], path: str
) -> None:
    assert rest.path_of(what) == path


def test_each_api_version_is_asked_for_once(rest: Rest, server: Server) -> None:
    for _ in range(2):
        rest.path_of(item("v1", "Service", "web"))
        rest.path_of(item("v1", "Pod", "a"))
        rest.path_of(item("networking.k8s.io/v1", "NetworkPolicy", "deny"))
    assert server.asked == ["/api/v1", "/apis/networking.k8s.io/v1"]


@pytest.mark.parametrize(
    ("api_version", "kind", "words"),
    [
        ("v1", "Servic", "Servic: the API server knows no such kind in v1"),
        ("v1", "NodeProxyOptions", "NodeProxyOptions: the API server knows no such kind in v1"),
        (
            "empty.example/v1",
            "Thing",
            "Thing: the API server knows no such kind in empty.example/v1",
        ),
        ("gone.example/v1", "Thing", "Thing: the API server does not serve gone.example/v1"),
    ],
)
def test_an_unknown_kind_is_an_error_and_not_an_absent_object(
    rest: Rest, api_version: str, kind: str, words: str
) -> None:
    with pytest.raises(KubeError) as caught:
        rest.path_of(item(api_version, kind, "x"))
    assert caught.value.message == words
    assert caught.value.hint


def test_an_answer_that_is_no_list_is_an_error(rest: Rest) -> None:
    with pytest.raises(KubeError, match="no list of API resources"):
        rest.path_of(item("odd.example/v1", "Thing", "x"))
