# SPDX-License-Identifier: Apache-2.0
"""The agent as a process: its API, its loop, its end."""

from __future__ import annotations

import gc

from kubypass.agent.agent import Agent
from kubypass.agent.health import Health
from kubypass.agent.http_ports import HttpPorts
from kubypass.agent.log import log
from kubypass.agent.loop import Loop
from kubypass.agent.options import Options
from kubypass.agent.report.details import opened
from kubypass.agent.report.report import Report
from kubypass.agent.run_directory import take_place
from kubypass.agent.signals import Signals
from kubypass.agent.source.api_access import open_source, use_settings
from kubypass.agent.source.cluster_follower import Following
from kubypass.agent.source.config_map import ConfigMapSettings
from kubypass.api.routes import agent_routes
from kubypass.api.server import HttpServer
from kubypass.kube.config_maps import parse_name
from kubypass.kube.watch.api_source import ApiSource
from kubypass.settings.files import load_settings


def run(options: Options) -> int:
    """Runs until SIGTERM or SIGINT. The datapath stays in place afterwards."""
    signals = Signals()
    overrides = [f"--{key}={value}" for key, value in options.overrides.items()]
    settings, findings = load_settings(options.config, overrides)
    place = take_place(options)
    source = open_source(options, settings)
    server = HttpServer()
    ports = HttpPorts(server, settings, options.node, Health())
    try:
        configuration = None
        if isinstance(source, ApiSource) and options.config_map:
            ports.start(settings)  # probes are answered while the API is away
            name = parse_name(options.config_map)
            configuration = ConfigMapSettings(name, source, options.overrides, options.run)
            found = configuration.first(signals)
            if found is None:
                return 0
            settings, findings = found
        use_settings(source, settings)
        following = Following(source, configuration)
        agent = Agent(options, place, settings, findings=findings, following=following, ports=ports)
        _serve(agent, server, signals)
    finally:
        source.stop()
        server.stop()
    log("ended: the datapath stays in place")
    return 0


def _serve(agent: Agent, server: HttpServer, signals: Signals) -> None:
    for finding in agent.findings:
        if finding.level != "accepted":
            log("setting", "WARNING", key=finding.key, message=finding.message)
    for note in opened(agent.settings):
        log("open to the outside", "WARNING", message=note)
    loop = Loop(agent, signals)
    loop.watch()
    report = Report(agent)
    server.open(agent.options.run / "agent.sock", agent_routes(report))
    agent.ports.start(agent.settings, report)
    gc.disable()  # what is made now stays
    agent.follow()
    if loop.wait():
        _start(agent)
        loop.run()


def _start(agent: Agent) -> None:
    with agent.health.update():
        agent.start()
    gc.collect()
    gc.freeze()  # the cluster's objects live long: no collection walks them
    gc.enable()
    agent.retry()
    log("ready", node=agent.options.node, ms=1000 * agent.timings["start_s"])
    for problem in agent.problems():
        if problem in agent.ports.problems:
            continue  # told when they came up
        log("problem", "WARNING", subject=problem.subject, message=problem.message)
