# SPDX-License-Identifier: Apache-2.0
"""The agent as a process: its HTTP server, its loop, its end."""

from __future__ import annotations

import gc

from kubypass.agent.agent import Agent
from kubypass.agent.faults import Faults
from kubypass.agent.health import Health
from kubypass.agent.host_checks import allow_open_files
from kubypass.agent.http_ports import HttpPorts
from kubypass.agent.log import log
from kubypass.agent.loop import Loop
from kubypass.agent.options import Options
from kubypass.agent.report.notes import open_to_outside
from kubypass.agent.report.report import Report
from kubypass.agent.run_directory import claim_run_directory
from kubypass.agent.running import Running
from kubypass.agent.signals import Signals
from kubypass.agent.source.cluster_follower import ClusterFollower
from kubypass.agent.source.open_source import open_source
from kubypass.api.routes import agent_routes
from kubypass.api.server import HttpServer
from kubypass.settings.files import load_settings


def run(options: Options) -> int:
    """Runs until SIGTERM or SIGINT. The datapath stays in place afterwards."""
    signals = Signals()
    overrides = [f"--{key}={value}" for key, value in options.overrides.items()]
    settings, findings = load_settings(options.config, overrides)
    directory = claim_run_directory(options)
    source = open_source(options, settings)
    allow_open_files()
    faults = Faults()
    server = HttpServer(failed=faults.note)
    ports = HttpPorts(server, settings, options.node, Health())
    try:
        config_map = source.config_map(options)
        if config_map is not None:
            ports.start(settings)  # probes are answered while the API is away
            found = config_map.first(signals)
            if found is None:
                return 0
            settings, findings = found
        source.use(settings)
        agent = Agent(
            options,
            directory,
            settings,
            findings=findings,
            follower=ClusterFollower(source, config_map),
            ports=ports,
            faults=faults,
        )
        _serve(agent, signals)
    finally:
        source.stop()
        server.stop()
    log("ended: the datapath stays in place")
    return 0


def prepare_node(options: Options) -> int:
    """Makes the node ready for an agent that may not mount anything, and ends."""
    claim_run_directory(options)
    return 0


def _serve(agent: Agent, signals: Signals) -> None:
    for finding in agent.findings:
        if finding.level != "accepted":
            log("setting", "WARNING", key=finding.key, message=finding.message)
    for note in open_to_outside(agent.settings):
        log("open to the outside", "WARNING", message=note)
    if agent.bypassed:
        log("rules are bypassed", "WARNING", message=agent.bypassed)
    loop = Loop(agent, signals)
    loop.watch()
    report = Report(agent)
    agent.ports.serve_api(agent.options.run / "agent.sock", agent_routes(report))
    agent.ports.start(agent.settings, report)
    gc.disable()  # the objects that are made now stay
    agent.follow()
    if loop.wait():
        report.running = _start(agent)
        loop.run(report.running)


def _start(agent: Agent) -> Running:
    with agent.health.update():
        running = Running(agent)
    gc.collect()
    gc.freeze()  # the cluster's objects live long: no collection walks them
    gc.enable()
    agent.retry()
    log("ready", node=agent.options.node, ms=1000 * agent.timings["start_s"])
    running.look()
    return running
