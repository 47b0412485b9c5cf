# SPDX-License-Identifier: Apache-2.0
"""Access from a kubeconfig: the cluster and user of the current context.

Several files (`KUBECONFIG=a:b`) are merged, and the first entry of a name wins. Paths are relative to their file.
Passwords and auth providers are not read: Kubernetes has removed them.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from kubypass.errors import ConfigError
from kubypass.kube.client.access import Access, Trust, parse_server
from kubypass.kube.client.credentials import Credentials, FixedToken, TokenFile, TokenProgram

_LISTS = ("clusters", "users", "contexts")
_EXEC_VERSIONS = ("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1")


@dataclass(frozen=True, slots=True)
class _Entry:
    """A cluster, user or context."""

    path: Path
    """The file that has the entry."""
    name: str
    """Kind and name for messages, such as `cluster c`."""
    fields: dict[str, object]

    def text(self, key: str) -> str:
        """The value of a key; empty if it is missing."""
        value = self.fields.get(key)
        if value is not None and not isinstance(value, str):
            raise self.error(f"{key} is {value!r}", "expected text, in quotes")
        return value or ""

    def pem(self, key: str) -> str:
        """PEM text: inline in base64 (`KEY-data`, which takes precedence), or in a file."""
        if inline := self.text(f"{key}-data"):
            try:
                return base64.b64decode(inline, validate=True).decode("ascii")
            except (binascii.Error, UnicodeDecodeError):
                raise self.error(f"{key}-data is not base64 of PEM", "expected base64") from None
        path = self.file(key)
        if path is None:
            return ""
        try:
            return path.read_text("ascii")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not PEM"
            raise self.error(f"{key} {path}: {reason}", "expected a readable PEM file") from None

    def file(self, key: str) -> Path | None:
        """The path of a key, relative to the kubeconfig's directory."""
        text = self.text(key)
        return self.path.parent / text if text else None

    def error(self, message: str, hint: str) -> ConfigError:
        """An error that names the file and the entry."""
        return ConfigError(f"kubeconfig {self.path}: {self.name}: {message}", hint)


def named_kubeconfigs(environment: Mapping[str, str]) -> list[Path]:
    """The files in the variable KUBECONFIG, which has the form `a:b`."""
    return [Path(text) for text in environment.get("KUBECONFIG", "").split(":") if text]


def read_kubeconfig(paths: Iterable[Path]) -> Access:
    """Reads the access to the current context's cluster. Raises ConfigError, which names what is missing."""
    tables: dict[str, dict[str, _Entry]] = {name: {} for name in _LISTS}
    current, files = "", list(paths)
    for path in files:
        found = _load(path)
        current = current or str(found.get("current-context") or "")
        for name in _LISTS:
            for entry in _entries(path, name, found.get(name)):
                tables[name].setdefault(entry.name, entry)
    where = ":".join(map(str, files))
    context = _pick(tables["contexts"], "context", current, where, "current-context")
    cluster = _pick(tables["clusters"], "cluster", context.text("cluster"), where, context.name)
    user_name = context.text("user")
    user = (
        _pick(tables["users"], "user", user_name, where, context.name)
        if user_name
        else _Entry(context.path, "no user", {})
    )
    if not cluster.text("server"):
        raise cluster.error("server is missing", "expected https://HOST:PORT")
    origin = f"kubeconfig {cluster.path}"
    server = parse_server(cluster.text("server"), f"{origin}: {cluster.name}: server")
    change = f"set server in {cluster.path}, or k8s-api-server-urls"
    return Access((server,), _trust(cluster, user), _credentials(user), origin, change)


def _load(path: Path) -> dict[str, object]:
    hint = "give the kubeconfig of a user who may list and watch services"
    try:
        found = yaml.load(path.read_bytes(), Loader=yaml.CSafeLoader)
    except OSError as error:
        raise ConfigError(f"kubeconfig {path}: {error.strerror}", hint) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f" at line {mark.line + 1}" if mark is not None else ""
        raise ConfigError(f"kubeconfig {path}: not YAML{place}", hint) from None
    if not isinstance(found, dict):
        raise ConfigError(f"kubeconfig {path}: no configuration in it", hint)
    return found


def _entries(path: Path, table: str, items: object) -> list[_Entry]:
    """The entries of a table, which has the form `[{name: a, cluster: {…}}, …]`."""
    kind = table.removesuffix("s")
    found = []
    for item in items if isinstance(items, list) else ():
        fields = item.get(kind) if isinstance(item, dict) else None
        if isinstance(fields, dict):
            found.append(_Entry(path, f"{kind} {item.get('name')}", fields))
    return found


def _pick(table: dict[str, _Entry], kind: str, name: str, where: str, asked_by: str) -> _Entry:
    entry = table.get(f"{kind} {name}")
    if entry is None:
        known = ", ".join(key.removeprefix(f"{kind} ") for key in table) or "none"
        message = f"kubeconfig {where}: {asked_by} names the {kind} {name!r}, which is not there"
        raise ConfigError(message, f"there are: {known}")
    return entry


def _trust(cluster: _Entry, user: _Entry) -> Trust:
    certificate, key = user.pem("client-certificate"), user.pem("client-key")
    if bool(certificate) != bool(key):
        raise user.error("client-certificate and client-key belong together", "give both")
    return Trust(
        authority=cluster.pem("certificate-authority"),
        insecure=cluster.fields.get("insecure-skip-tls-verify") is True,
        server_name=cluster.text("tls-server-name"),
        certificate=certificate,
        key=key,
    )


def _credentials(user: _Entry) -> Credentials:
    """The credentials in client-go's order: a token file, a token, a program."""
    if path := user.file("tokenFile"):
        return TokenFile(path)
    if token := user.text("token"):
        return FixedToken(token)
    program = user.fields.get("exec")
    return _program(user, program) if isinstance(program, dict) else FixedToken()


def _program(user: _Entry, fields: dict[str, object]) -> TokenProgram:
    entry = _Entry(user.path, f"{user.name}: exec", fields)
    version = entry.text("apiVersion")
    if version not in _EXEC_VERSIONS:
        raise entry.error(f"apiVersion is {version!r}", f"expected {' or '.join(_EXEC_VERSIONS)}")
    command = entry.text("command")
    if not command:
        raise entry.error("command is missing", "expected a program that prints an ExecCredential")
    if "/" in command:
        command = str(user.path.parent / command)
    arguments, variables = fields.get("args") or [], fields.get("env") or []
    if not isinstance(arguments, list) or not isinstance(variables, list):
        raise entry.error("args or env is no list", "expected lists")
    environment = {
        str(each["name"]): str(each.get("value") or "")
        for each in variables
        if isinstance(each, dict) and each.get("name")
    }
    words = [command, *map(str, arguments)]
    return TokenProgram(words, environment, version, entry.text("installHint"))
