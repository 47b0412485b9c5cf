# SPDX-License-Identifier: Apache-2.0
"""Access to an API server: kubeconfigs, service accounts, tokens; fail-over, back-off and permissions."""

from __future__ import annotations

import base64
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from kubypass.errors import ConfigError, KubeError
from kubypass.kube.client.access import parse_server
from kubypass.kube.client.backoff import FIRST_S, LONGEST_S, Backoff
from kubypass.kube.client.client import Client, Version
from kubypass.kube.client.credentials import REREAD_S, TokenFile, TokenProgram
from kubypass.kube.client.in_cluster import is_in_cluster, read_in_cluster, service_addresses
from kubypass.kube.client.kubeconfig import read_kubeconfig
from kubypass.kube.client.permissions import CLUSTER_RULES, CONFIG_RULES, Rule, missing_message

PEM = "-----BEGIN CERTIFICATE-----\n"


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def write(path: Path, cluster: dict[str, Any], user: dict[str, Any], **top: Any) -> Path:
    content = {
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": user}],
        **top,
    }
    path.write_text(yaml.safe_dump(content))
    return path


def test_certificates_inline_or_in_files_beside_the_kubeconfig(tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_text("key")
    cluster = {
        "server": "https://[fd00::1]:6443/k8s/",
        "certificate-authority-data": encoded(PEM),
        "tls-server-name": "api.example",
    }
    user = {"client-certificate-data": encoded("cert"), "client-key": "key.pem"}
    access = read_kubeconfig([write(tmp_path / "config", cluster, user)])
    (server,) = access.servers
    assert (server.host, server.port, server.path) == ("fd00::1", 6443, "/k8s")
    assert str(server) == "https://[fd00::1]:6443/k8s"
    trust = access.trust
    assert (trust.authority, trust.certificate, trust.key) == (PEM, "cert", "key")
    assert (trust.server_name, trust.insecure) == ("api.example", False)
    assert "cert" not in repr(trust)


def test_a_variable_of_a_program_that_is_null(tmp_path: Path) -> None:
    api = "client.authentication.k8s.io/v1"
    said = '{"apiVersion":"%s","kind":"ExecCredential","status":{"token":"zone=%s."}}\n'
    env = [{"name": "ZONE", "value": None}, {"name": None, "value": "x"}, None]
    words = ["-c", f"printf '{said}' {api} \"$ZONE\""]
    user = {"exec": {"apiVersion": api, "command": "sh", "args": words, "env": env}}
    access = read_kubeconfig([write(tmp_path / "config", {"server": "https://a"}, user)])
    assert access.credentials.token() == "zone=."


def test_of_several_files_the_first_with_a_name_counts(tmp_path: Path) -> None:
    first = write(tmp_path / "a", {"server": "https://a"}, {"token": "one"})
    second = write(tmp_path / "b", {"server": "https://b"}, {"token": "two"})
    second.write_text(second.read_text().replace("name: u", "name: v"))
    access = read_kubeconfig([first, second])
    assert str(access.servers[0]) == "https://a:443"
    assert access.credentials.token() == "one"


@pytest.mark.parametrize(
    ("cluster", "user", "top", "words"),
    [
        ({}, {}, {}, "cluster c: server is missing"),
        ({"server": "https://"}, {}, {}, "is no address of an API server"),
        ({"server": "ftp://a"}, {}, {}, "is no address of an API server"),
        ({"server": "https://a"}, {}, {"current-context": "there"}, "the context 'there'"),
        ({"server": "https://a"}, {"client-key-data": encoded("k")}, {}, "belong together"),
        ({"server": "https://a"}, {"client-key-data": "*"}, {}, "is not base64"),
        ({"server": "https://a", "certificate-authority": "x"}, {}, {}, "No such file"),
        ({"server": "https://a"}, {"token": 5}, {}, "token is 5; expected text"),
        ({"server": "https://a"}, {"exec": {"command": "x"}}, {}, "apiVersion is ''"),
        ({"server": "https://a"}, {}, {"contexts": None}, "there are: none"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_wrong_is_named(
    tmp_path: Path,
    cluster: dict[str, str],
    user: dict[str, object],
    top: dict[str, object],
    words: str,
) -> None:
    with pytest.raises(ConfigError, match=r"kubeconfig|API server") as caught:
        read_kubeconfig([write(tmp_path / "config", cluster, user, **top)])
    assert words in str(caught.value)


@pytest.mark.parametrize("text", ["[", "- a", ""])
def test_what_is_no_kubeconfig(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config"
    path.write_text(text)
    with pytest.raises(ConfigError, match="kubeconfig"):
        read_kubeconfig([path])


def test_a_pod_has_a_service_account_and_an_address_that_is_not_its_service(tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_text(PEM)
    (tmp_path / "token").write_text("secret\n")
    environment = {
        "KUBERNETES_SERVICE_HOST": "fd00::1",
        "KUBERNETES_SERVICE_PORT": "6443",
        "KUBERNETES_PORT_443_TCP_ADDR": "10.96.0.1",
        "KUBYPASS_SERVICE_ACCOUNT": str(tmp_path),
    }
    assert is_in_cluster(environment)
    access, services = read_in_cluster(environment), service_addresses(environment)
    assert str(access.servers[0]) == "https://[fd00::1]:6443"
    assert access.credentials.token() == "secret"
    assert services == {"10.96.0.1"}
    with pytest.raises(ConfigError, match="automountServiceAccountToken"):
        read_in_cluster(environment | {"KUBYPASS_SERVICE_ACCOUNT": "/nonexistent"})


def test_a_token_file_is_read_each_minute_and_when_it_was_refused(tmp_path: Path) -> None:
    path, now = tmp_path / "token", [0.0]
    credentials = TokenFile(path, lambda: now[0])
    with pytest.raises(KubeError, match="No such file"):
        credentials.token()
    path.write_text("one")
    assert credentials.token() == "one"
    path.write_text("two")
    assert credentials.token() == "one"
    now[0] += REREAD_S
    assert credentials.token() == "two"
    path.write_text("three")
    credentials.forget()
    assert credentials.token() == "three"
    path.unlink()
    now[0] += REREAD_S
    assert credentials.token() == "three"


def program(text: str, now: list[float]) -> TokenProgram:
    api = "client.authentication.k8s.io/v1"
    return TokenProgram(["sh", "-c", text], {"WHO": "us"}, api, "install it", lambda: now[0])


def test_a_program_is_run_again_before_its_token_expires(tmp_path: Path) -> None:
    count, now = tmp_path / "count", [0.0]
    status = '{"status":{"token":"\'$WHO-$(wc -l < COUNT)\'","expirationTimestamp":"1970-01-01T01:00:00Z"}}'
    made = program(f"echo >> {count}; echo '{status}'".replace("COUNT", str(count)), now)
    assert made.token() == made.token() == "us-1"
    now[0] = 3580.0
    assert made.token() == "us-2"
    made.forget()
    now[0] = 0.0
    assert made.token() == "us-3"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("echo no credentials >&2; exit 3", "exit code 3: no credentials; install it"),
        ("echo text", "no ExecCredential"),
        ("echo '{}'", "no status.token"),
    ],
)
def test_a_program_that_gives_no_token(text: str, words: str) -> None:
    with pytest.raises(KubeError) as caught:
        program(text, [0.0]).token()
    assert words in str(caught.value)


def test_a_wait_grows_to_a_limit_and_is_never_what_others_wait() -> None:
    for chance, share in ((0.0, 0.5), (1.0, 1.0)):
        backoff = Backoff(partial(float, chance))
        delays = [backoff.delay() for _ in range(12)]
        assert delays[:3] == [FIRST_S * share, 2 * FIRST_S * share, 4 * FIRST_S * share]
        assert delays[-1] == LONGEST_S * share
        assert backoff.delay(at_least_s=3600) == LONGEST_S
        backoff.reset()
        assert backoff.delay(at_least_s=7) == 7


def test_the_next_server_is_tried_until_all_have_failed(tmp_path: Path) -> None:
    path = write(tmp_path / "config", {"server": "https://a"}, {})
    servers = [parse_server(f"https://{name}", "test") for name in "abc"]
    client = Client(read_kubeconfig([path]).with_servers(servers))
    a, b, c = servers
    assert client.server == a
    assert client.fail_over(a)
    assert client.fail_over(a)  # another thread had it too
    assert client.server == b
    assert client.fail_over(b)
    assert client.server == c
    assert not client.fail_over(c)  # all have failed: time to wait
    assert client.server == a
    assert client.fail_over(a)
    client.answered()
    assert client.fail_over(b)
    assert client.server == c


@pytest.mark.parametrize(
    ("minor", "offered"), [("26", False), ("27", True), ("34", True), ("27+", True), ("", False)]
)
def test_which_servers_know_of_streaming_lists(minor: str, offered: bool) -> None:
    assert Version("1", minor).has_streaming_lists == offered


def test_missing_permissions_are_named_with_the_rule_to_add() -> None:
    rules = [Rule("discovery.k8s.io", "endpointslices", ("watch",), ""), CLUSTER_RULES[4]]
    text = missing_message(rules, CONFIG_RULES, "kube-system")
    assert text == (
        "the agent may not watch endpointslices; patch nodes; list, watch configmaps; "
        'add to its ClusterRole: {apiGroups: ["discovery.k8s.io"], resources: ["endpointslices"], verbs: ["watch"]}, '
        '{apiGroups: [""], resources: ["nodes"], verbs: ["patch"]}; '
        'add to its Role in kube-system: {apiGroups: [""], resources: ["configmaps"], verbs: ["list", "watch"]}'
    )
