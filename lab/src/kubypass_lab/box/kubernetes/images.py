# SPDX-License-Identifier: Apache-2.0
"""The images of a cluster, made from this machine's programs: nothing is pulled.

Programs are copied with the libraries that ldd names. The name of the directory of archives contains a hash of the
recipes, so a changed recipe makes new images.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import image_archive
from image_archive import ImageConfig, write_archive
from kubypass.errors import KubypassError
from kubypass_lab.box.kubernetes.programs import (
    GO_NEEDED,
    Say,
    alone,
    find_go,
    kubernetes_module,
    minor_of,
    programs_directory,
)
from kubypass_lab.box.process import run

PAUSE = "registry.k8s.io/pause:3.10.1"
NGINX = "docker.io/library/nginx:latest"
COREDNS = "registry.k8s.io/coredns/coredns:v1.12.1"
KUBE_PROXY = "registry.k8s.io/kube-proxy:box"  # that of the cluster's version
AGNHOST = "registry.k8s.io/e2e-test-images/agnhost:2.56"
# Images that only Kubernetes' own tests use.
_E2E = "registry.k8s.io/e2e-test-images"
_IPTABLES = "registry.k8s.io/build-image/distroless-iptables"
# The names under which the tests of each version ask for them (test/utils/image/manifest.go of 1.33, 1.34 and 1.37).
_AGNHOSTS = tuple(f"{_E2E}/agnhost:{tag}" for tag in ("2.53", "2.66.1"))
_TOOLS_OF_TESTS = (
    *(f"{_E2E}/busybox:{tag}" for tag in ("1.36.1-1", "1.37.0-1", "1.37.0-2")),
    *(f"{_E2E}/{name}" for name in ("jessie-dnsutils:1.7", "glibc-dns-testing:2.1.1")),
    *(f"{_IPTABLES}:{tag}" for tag in ("v0.8.11", "v0.7.14", "v0.9.9")),
)
_NGINX_OF_TESTS = tuple(f"{_E2E}/nginx:{tag}" for tag in ("1.14-4", "1.27.0-2"))
_BOOM_SERVERS = tuple(f"{_E2E}/regression-issue-74839:{tag}" for tag in ("1.2", "1.5"))

_TOOLS = (
    *("bash", "cat", "ls", "sleep", "date", "hostname", "head", "tail", "wc", "tr", "cut", "sort"),
    *("uniq", "seq", "echo", "test", "true", "false", "env", "timeout", "grep", "sed", "awk"),
    *("printf", "mkdir", "rm", "cp", "mv", "ln", "chmod", "touch", "id", "uname", "stat", "dd"),
    *("find", "xargs", "ps", "tee", "expr", "readlink", "dirname", "basename", "mktemp", "od"),
    *("sha256sum", "sh", "getent"),
)
IMAGES_OF_TESTS = ("agnhost", "tools", "boom-server")  # images that only tests need
_NETWORK_TOOLS = ("curl", "wget", "nc", "dig", "nslookup", "host", "ss", "ip")
_NETFILTER = (
    *(f"{family}{action}" for family in ("iptables", "ip6tables") for action in ("", "-save")),
    *("iptables-restore", "ip6tables-restore", "nft", "conntrack"),
)
# glibc opens these by name when it resolves a host name.
_RESOLVER = ("libnss_dns.so.2", "libnss_files.so.2", "libresolv.so.2")
_DIRECTORIES = ("usr/bin", "usr/sbin", "usr/lib", "usr/lib64", "etc", "tmp", "run", "root", "dev")
_MORE_DIRECTORIES = ("proc", "sys", "var/log", "var/lib", "uploads", "usr/local/bin")
_NGINX_CONF = """user www-data;
worker_processes 1;
error_log stderr;
pid /run/nginx.pid;
events { worker_connections 512; }
http {
  include mime.types;
  access_log /dev/stdout;
  server {
    listen 80;
    listen [::]:80;
    root /usr/share/nginx/html;
    location = /hostname { default_type text/plain; return 200 "$hostname\\n"; }
  }
}
"""


@dataclass(frozen=True, slots=True)
class _Sources:
    """The directories from which images are filled."""

    packages: Path
    programs: Path
    kubernetes: Path  # the sources of Kubernetes


@dataclass(frozen=True, slots=True)
class _Recipe:
    file: str
    config: ImageConfig
    fill: Callable[[Path, _Sources], None]


def build_images(packages: Path, version: str, say: Say) -> Path:
    """Make the missing images. Returns the directory with their archives."""
    directory = images_directory(version)
    if all((directory / f"{recipe.file}.tar").exists() for recipe in _RECIPES):
        return directory
    directory.mkdir(parents=True, exist_ok=True)
    with alone(directory, say):
        source = kubernetes_module(find_go(say, GO_NEEDED[minor_of(version)]), version)
        sources = _Sources(packages, programs_directory(version), source)
        for recipe in _RECIPES:
            archive = directory / f"{recipe.file}.tar"
            if archive.exists():
                continue
            say(f"making image {recipe.config.name}")
            root = directory / f".{recipe.file}.root"
            shutil.rmtree(root, ignore_errors=True)
            recipe.fill(root, sources)
            write_archive(root, recipe.config, archive)
            shutil.rmtree(root)
    return directory


def images_directory(version: str) -> Path:
    """The directory with the archives of these recipes."""
    recipes = b"".join(Path(path).read_bytes() for path in (__file__, image_archive.__file__))
    return programs_directory(version) / f"images-{hashlib.sha256(recipes).hexdigest()[:8]}"


def _fill_pause(root: Path, sources: _Sources) -> None:
    root.mkdir()
    source = sources.kubernetes / "build/pause/linux/pause.c"
    version = f"-DVERSION={PAUSE.rpartition(':')[2]}"
    run(["gcc", "-Os", "-static", version, "-o", str(root / "pause"), str(source)])


def _fill_coredns(root: Path, sources: _Sources) -> None:
    (root / "tmp").mkdir(parents=True)
    _copy(sources.programs / "coredns", root / "coredns")


def _fill_nginx(root: Path, sources: _Sources) -> None:
    _fill_base(root, sources, ("nginx", "curl"))
    for name in ("etc/nginx", "var/log/nginx", "var/lib/nginx"):
        (root / name).mkdir(parents=True, exist_ok=True)
    _copy(Path("/etc/nginx/mime.types"), root / "etc/nginx/mime.types")
    _copy(Path("/usr/share/nginx/html/index.html"), root / "usr/share/nginx/html/index.html")
    (root / "etc/nginx/nginx.conf").write_text(_NGINX_CONF)


def _fill_agnhost(root: Path, sources: _Sources) -> None:
    _fill_base(root, sources, _NETWORK_TOOLS)
    _copy(sources.programs / "agnhost", root / "agnhost")
    _copy(sources.programs / "coredns", root / "coredns")
    (root / "agnhost-2").symlink_to("agnhost")
    for name in ("localhost.crt", "localhost.key"):
        _copy(sources.kubernetes / "test/images/agnhost/porter" / name, root / name)


def _fill_tools(root: Path, sources: _Sources) -> None:
    _fill_base(root, sources, (*_NETWORK_TOOLS, "conntrack"))


def _fill_boom_server(root: Path, sources: _Sources) -> None:
    root.mkdir()
    _copy(sources.programs / "regression-issue-74839", root / "boom-server")


def _fill_kube_proxy(root: Path, sources: _Sources) -> None:
    _fill_base(root, sources, _NETFILTER)
    _copy(sources.programs / "kube-proxy", root / "usr/local/bin/kube-proxy")
    for plugin in Path("/usr/lib").glob("*/xtables/*.so"):
        _copy(plugin, root / plugin.relative_to("/"))
        _copy_libraries(root, plugin, sources.packages)


_RECIPES = (
    _Recipe("pause", ImageConfig(PAUSE, ("/pause",), user="65535:65535"), _fill_pause),
    _Recipe("coredns", ImageConfig(COREDNS, ("/coredns",)), _fill_coredns),
    _Recipe(
        "nginx",
        ImageConfig(NGINX, command=("nginx", "-g", "daemon off;"), also=_NGINX_OF_TESTS),
        _fill_nginx,
    ),
    _Recipe(
        "agnhost", ImageConfig(AGNHOST, ("/agnhost",), ("pause",), also=_AGNHOSTS), _fill_agnhost
    ),
    _Recipe(
        "tools",
        ImageConfig(_TOOLS_OF_TESTS[0], command=("sh",), also=_TOOLS_OF_TESTS[1:]),
        _fill_tools,
    ),
    _Recipe(
        "boom-server",
        ImageConfig(_BOOM_SERVERS[0], ("/boom-server",), also=_BOOM_SERVERS[1:]),
        _fill_boom_server,
    ),
    _Recipe("kube-proxy", ImageConfig(KUBE_PROXY), _fill_kube_proxy),
)


def _fill_base(root: Path, sources: _Sources, programs: Iterable[str]) -> None:
    """Add directories, users, a resolver, a shell with the usual tools, and `programs`."""
    for name in (*_DIRECTORIES, *_MORE_DIRECTORIES):
        (root / name).mkdir(parents=True, exist_ok=True)
    for name in ("bin", "sbin", "lib", "lib64"):
        (root / name).symlink_to(f"usr/{name}")
    (root / "var/run").symlink_to("/run")
    (root / "tmp").chmod(0o1777)
    users = {"root": (0, "/root"), "www-data": (33, "/var/www"), "nobody": (65534, "/")}
    lines = [f"{name}:x:{uid}:{uid}::{home}:/bin/sh" for name, (uid, home) in users.items()]
    (root / "etc/passwd").write_text("\n".join(lines) + "\n")
    groups = {"root": 0, "www-data": 33, "nogroup": 65534}
    (root / "etc/group").write_text("".join(f"{name}:x:{gid}:\n" for name, gid in groups.items()))
    (root / "etc/nsswitch.conf").write_text("hosts: files dns\n")
    for name in (*_TOOLS, *programs):
        program = _find(name, sources.packages)
        _copy(program, root / "usr/bin" / name)
        _copy_libraries(root, program, sources.packages)
    for name in _RESOLVER:
        for library in Path("/lib").glob(f"*-linux-gnu/{name}"):
            _copy(library, root / library.relative_to("/"))


def _find(name: str, packages: Path) -> Path:
    """Find a program among the unpacked packages or on the machine. KubypassError: neither has it."""
    folders = [str(packages / folder) for folder in ("usr/bin", "usr/sbin", "bin", "sbin")]
    program = "nc.openbsd" if name == "nc" else name
    found = shutil.which(program, path=":".join(folders)) or shutil.which(program)
    if found is None:
        raise KubypassError(f"{name} is not installed", "run make install, then try again")
    return Path(found).resolve()


def _copy_libraries(root: Path, program: Path, packages: Path) -> None:
    libraries = [str(path) for path in packages.glob("usr/lib/*-linux-gnu")]
    said = subprocess.run(
        ["ldd", str(program)],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LD_LIBRARY_PATH": ":".join(libraries)},
    )
    for name in re.findall(r"(/\S+) \(0x", said.stdout):
        path = Path(name)
        inside = path.relative_to(packages if path.is_relative_to(packages) else "/")
        if not (root / inside).exists():
            _copy(path, root / inside)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, target)
