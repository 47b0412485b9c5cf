# SPDX-License-Identifier: Apache-2.0
"""The agent as a process: its API, its loop, its end."""

from __future__ import annotations

import gc

from kubypass.agent.agent import Agent
from kubypass.agent.details import opened
from kubypass.agent.log import log
from kubypass.agent.loop import Loop
from kubypass.agent.options import Options
from kubypass.agent.report import Report
from kubypass.api.server import Server


def run(options: Options) -> int:
    """Runs until SIGTERM or SIGINT. The datapath stays in place afterwards."""
    agent = Agent(options)
    for finding in agent.findings:
        if finding.level != "accepted":
            log("setting", "WARNING", key=finding.key, message=finding.message)
    for note in opened(agent.settings):
        log("open to the outside", "WARNING", message=note)
    loop = Loop(agent)
    loop.watch()
    report = Report(agent)
    server = Server(options.run / "agent.sock", report)
    server.start()
    try:
        agent.ports.start(report)
        gc.disable()  # what is made now stays
        with agent.health.update():
            agent.start()
        gc.collect()
        gc.freeze()  # the cluster's objects live long: no collection walks them
        gc.enable()
        log("ready", node=options.node, ms=1000 * agent.timings["start_s"])
        for problem in agent.problems():
            if problem in agent.ports.problems:
                continue  # told when they came up
            log("problem", "WARNING", subject=problem.subject, message=problem.message)
        loop.run()
    finally:
        agent.ports.stop()
        server.stop()
    log("ended: the datapath stays in place")
    return 0
