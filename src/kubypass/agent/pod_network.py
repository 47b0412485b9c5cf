# SPDX-License-Identifier: Apache-2.0
"""The agent's side of kubypass.cni: the pods' network, where it is ours (`--cni-conf-dir`).

The plugin and its configuration are installed once a pod could be added. From then on the kubelet calls the node ready.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

from kubypass.agent.agent import Agent
from kubypass.agent.cni_server import CniServer
from kubypass.agent.local_network import Network
from kubypass.agent.log import log
from kubypass.cni import conflist
from kubypass.cni.commands import Commands
from kubypass.cni.leases import Lease, Leases, format_mac
from kubypass.cni.link import change_mtu, link_mtu, node_routes, repair_node_side
from kubypass.cni.node_config import NodeConfig, outside, pool, shortage
from kubypass.cni.protocol import (
    Code,
    Request,
    answer,
    error_answer,
    parse_request,
)
from kubypass.errors import CniError, ConfigError, KernelError, KubypassError
from kubypass.kernel.inotify import Watch
from kubypass.kernel.netlink import Link, Netlink
from kubypass.kernel.rtnetlink import PROTOCOL_BOOT
from kubypass.model.address import Address, format_address
from kubypass.model.node import Node
from kubypass.model.pod import Pod
from kubypass.model.problem import Problem
from kubypass.node.facts import NodeState
from kubypass.node.record import Change, Kind

DELETES = "cni-deletes"
MARKS = "cni-last"
SOCKET = "cni.sock"


def open_pod_network(agent: Agent, network: Network) -> PodNetwork | None:
    """The pods' network; None where the options say that it is somebody else's."""
    conf, programs = agent.options.cni_conf_dir, agent.options.cni_bin_dir
    if conf is None or programs is None:
        return None
    return PodNetwork(agent, network, conf, programs)


class PodNetwork:
    """The network of one node's pods. `problems` are those of the last look."""

    def __init__(self, agent: Agent, network: Network, conf: Path, programs: Path) -> None:
        """Takes over what an earlier agent left, and serves the plugin from now on."""
        self._run = agent.options.run
        self._conf, self._bin = conf, programs
        self._settings = agent.settings
        self._record = agent.record
        self._node_config = NodeConfig(agent.options.node, (), {}, 0)
        self._network = network
        self.problems: list[Problem] = []
        self.pools: list[dict[str, object]] = []
        """What status says of each of the node's pod networks."""
        self._mtu_problems: list[Problem] = []
        self._install_problems: list[Problem] = []
        leases = Leases(self._run / "pods", self._run / MARKS)
        self._commands = Commands(leases, self, lambda: self._node_config)
        leases.load()
        self._release_stale(agent.node)
        deletes = self._run / DELETES
        deletes.mkdir(mode=0o700, exist_ok=True)
        self._watch = Watch()
        self._watch.add(deletes)
        self._replay()
        self._server = CniServer(self._run / SOCKET, self._answer)
        self._server.add(self._watch.fd, self._on_files)
        self.look(network, agent.node, agent.own_node, thorough=True)

    @property
    def fd(self) -> int:
        """A descriptor that is readable when `serve` has something to do."""
        return self._server.fd

    def serve(self) -> None:
        """Serves requests of the plugin, and looks at files that changed."""
        self._server.serve()

    def _release_stale(self, node: NodeState) -> None:
        stale = self._commands.release_stale(node.links)
        if stale:
            addresses = _texts(address for lease in stale for address in lease.addresses)
            log("leases of pods that are gone are released", count=len(stale), addresses=addresses)

    def connect(self, lease: Lease, link: Link) -> None:
        """Makes a pod's addresses reachable."""
        mac = format_mac(lease.mac)
        pod = Pod(
            lease.namespace,
            lease.name,
            lease.uid,
            lease.addresses,
            lease.interface,
            mac,
            lease.netns,
        )
        self._network.connect(pod, link)

    def disconnect(self, lease: Lease) -> None:
        """Makes a pod's addresses unreachable."""
        self._network.disconnect(lease.addresses, lease.interface)

    def look(
        self, network: Network, node: NodeState, own: Node | None, *, thorough: bool = False
    ) -> None:
        """Follows the node's devices, addresses and networks, which may have changed."""
        self._network, before = network, self._node_config
        exclusive, self._settings = self._settings.pods.cni_exclusive, network.settings
        cidrs = own.pod_cidrs if own else ()
        self._node_config = NodeConfig(
            before.name,
            tuple(cidr for cidr in cidrs if self._settings.network.has_family(cidr.family)),
            dict(node.primary),
            self._settings.pods.mtu or min(link.mtu for link in node.direct),
        )
        if thorough or before.sources != self._node_config.sources:
            self._repair(node)
        if thorough or not before.pod_cidrs or exclusive != self._settings.pods.cni_exclusive:
            self._install()
        self._mtu_problems = self._mtu(node)
        self._note_problems()

    def _note_problems(self) -> None:
        used = self._commands.leases.used()
        self.pools = [pool(cidr, used) for cidr in self._node_config.pod_cidrs]
        self.problems = [
            *self._install_problems,
            *self._shortages(),
            *self._mtu_problems,
            *self._configurations(),
        ]

    def _repair(self, node: NodeState) -> None:
        """Restores host routes that somebody has removed, or the kernel with the address that they sent from."""
        with Netlink() as netlink:
            present = set(netlink.routes(protocol=PROTOCOL_BOOT))
            for lease in self._commands.leases:
                link = node.links.get(lease.interface)
                if link is None:
                    continue
                pod, sources = f"{lease.namespace}/{lease.name}", self._node_config.sources
                if present.issuperset(node_routes(lease, link.index, sources)):
                    continue
                try:
                    repair_node_side(netlink, lease, link.index, sources)
                    log("host routes repaired", pod=pod)
                except KernelError as error:  # the pod goes, or the next look tries again
                    log("host routes not repaired", "WARNING", pod=pod, error=error)

    def _mtu(self, node: NodeState) -> list[Problem]:
        """Gives running pods the node's MTU; returns a problem for each pod that cannot have it."""
        problems, changed = [], 0
        for lease in self._commands.leases:
            link = node.links.get(lease.interface)
            if link is None or link.mtu == link_mtu(lease, self._node_config.mtu):
                continue
            try:
                with Netlink() as netlink:
                    change_mtu(netlink, lease, link, self._node_config.mtu)
                changed += 1
            except (KubypassError, OSError) as error:
                message = f"keeps MTU {link.mtu}, the node has {self._node_config.mtu} ({error}); restart the pod"
                problems.append(Problem(f"Pod {lease.namespace}/{lease.name}", message))
        if changed:
            log("MTU of pods changed", mtu=self._node_config.mtu, pods=changed)
        small = [link for link in node.direct if link.mtu < self._node_config.mtu]
        for link in small:
            message = (
                f"{self._node_config.mtu} is more than {link.name} takes ({link.mtu}): what pods send may be lost; "
                f"give it at most {link.mtu}, or none"
            )
            problems.append(Problem("Setting mtu", message))
        return problems

    def _shortages(self) -> list[Problem]:
        config, leases, problems = self._node_config, self._commands.leases, []
        subject = f"Node {config.name}"
        if short := shortage(config, leases.used()):
            problems.append(Problem(subject, "; ".join(short)))
        if config.pod_cidrs:
            stray = outside(config, (a for lease in leases for a in lease.addresses))
            if stray:
                message = (
                    f"spec.podCIDRs are {', '.join(map(str, config.pod_cidrs))}, and pods have addresses of others: "
                    f"{_texts(stray)}; other nodes have no route to them; restart these pods"
                )
                problems.append(Problem(subject, message))
        return problems

    def _configurations(self) -> list[Problem]:
        """A problem for each configuration of another network that the runtime prefers to ours."""
        found = conflist.others(self._conf)
        first = [name for name in found if name < conflist.CONFLIST]
        message = (
            f"comes before {conflist.CONFLIST}: the container runtime takes it, and new pods are not on our network; "
            'remove it, or set cni-exclusive: "true"'
        )
        return [Problem(f"CNI configuration {self._conf}/{name}", message) for name in first]

    def _install(self) -> None:
        """Installs the plugin, then the configuration that names it, once pods can get addresses."""
        if not self._node_config.pod_cidrs:
            return
        self._install_problems = []
        try:
            self._put_files(self._conf, self._bin)
        except (OSError, KubypassError) as error:
            message = f"our network cannot be announced: {error}; pods are not ours until it is"
            self._install_problems = [Problem(f"CNI configuration {self._conf}", message)]

    def keep(self) -> None:
        """Puts the plugin, its configuration and its socket back where somebody has removed them."""
        if self._server.is_lost:
            log("the plugin's socket was removed: it is opened again", "WARNING")
            self._server.listen()
        ours = (self._conf / conflist.CONFLIST, self._bin / conflist.PLUGIN)
        if self._node_config.pod_cidrs and not all(path.exists() for path in ours):
            self._install()
            self._note_problems()

    def _put_files(self, conf: Path, programs: Path) -> None:
        program = conflist.plugin_program()
        if program is None:
            raise ConfigError(f"{conflist.PLUGIN} is not built", hint="run make build")
        conf.mkdir(parents=True, exist_ok=True)
        self._watch.add(conf)
        self._record.add(Change(Kind.CNI_PLUGIN, str(programs)))
        self._record.add(Change(Kind.CNI_CONFIGURATION, str(conf)))
        if conflist.install_program(program, programs):
            log("plugin installed", path=programs / conflist.PLUGIN)
        if self._settings.pods.cni_exclusive:
            for name in conflist.set_aside(conf):
                log("CNI configuration set aside", path=conf / name, suffix=conflist.SET_ASIDE)
        if conflist.install_conflist(self._run, conf):
            log("CNI configuration installed", path=conf / conflist.CONFLIST)

    def _on_files(self) -> None:
        """Handles deletions that the plugin has left, and configurations that came or went."""
        self._watch.read()
        self._replay()
        self._install()
        self._note_problems()

    def _replay(self) -> None:
        """Handles deletions from the time when no agent answered."""
        for path in sorted((self._run / DELETES).glob("[!.]*")):
            try:
                request = parse_request(path.read_bytes())
                self._commands.delete(request.attachment)
                log("pod deleted, late", container=request.attachment.container_id)
            except CniError as error:
                log("deletion failed", "WARNING", path=path, error=error)
                if error.code == Code.TRY_AGAIN_LATER:
                    continue
            except OSError as error:  # the plugin is replacing the file just now
                log("deletion failed", "WARNING", path=path, error=error)
                continue
            path.unlink(missing_ok=True)

    def _answer(self, data: bytes, netns_fd: int | None) -> bytes:
        started, request = time.perf_counter(), None
        try:
            request = parse_request(data)
            self._replay()  # the runtime may use a name again
            result = self._commands.serve(request, netns_fd)
        except (KubypassError, OSError) as error:
            found = error if isinstance(error, CniError) else CniError(Code.IO_FAILURE, str(error))
            version = request.version if request else ""
            log(
                "CNI request failed",
                "WARNING",
                **_about(request),
                code=int(found.code),
                error=found,
            )
            return error_answer(found, version)
        if request.command in {"ADD", "DEL"}:
            self._note_problems()
            log("CNI", **_about(request), ms=1000 * (time.perf_counter() - started))
        return answer(result)


def _about(request: Request | None) -> dict[str, str]:
    if request is None:
        return {}
    namespace, name, _ = request.pod
    pod = {"pod": f"{namespace}/{name}"} if name else {}
    return {"command": request.command, **pod, "container": request.attachment.container_id[:16]}


def _texts(addresses: Iterable[Address]) -> str:
    texts = [format_address(address) for address in addresses]
    return ", ".join(texts[:5]) + (f" and {len(texts) - 5} more" if len(texts) > 5 else "")
