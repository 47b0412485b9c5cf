# SPDX-License-Identifier: Apache-2.0
"""The command line. Each command parses its arguments, calls another room and prints; only its module is imported."""

from __future__ import annotations

import sys

try:
    import argparse
    import importlib
    import os
    import signal
    from collections.abc import Iterable
    from types import ModuleType
    from typing import cast

    from kubypass.cli.output import discard_output, flush_output, prepare_streams, say_error
    from kubypass.cli.signals import repeat_lost_interrupts
    from kubypass.errors import ConfigError, KubypassError
except KeyboardInterrupt:  # Ctrl-C while modules are imported
    sys.exit(130)

COMMANDS = {
    "agent": "serve the services of a cluster, or of a directory of manifests, on this node",
    "status": "what is effective, and why where that is not what was asked for",
    "pod": "list this node's pods with their devices",
    "service": "list frontends with their backends",
    "trace": "why a connection goes where it goes: the real programs' decisions, step by step",
    "metrics": "counters, as Prometheus text",
    "config": "explain a settings file",
    "install": "put the agents into a cluster",
    "uninstall": "take the agents out of a cluster",
    "connectivity": "try every path in a cluster, with pods of its own",
    "cleanup": "take everything of ours off this node",
    "completion": "completion for bash, zsh and fish; the manual page",
    "version": "versions of kubypass, libbpf and the kernel",
}
LAB_COMMANDS = {
    "box": "a cluster in a box: nodes, pods and a client as namespaces (kubypass[lab])",
    "bench": "measure, side by side (kubypass[lab])",
}
"""Commands of the package kubypass-lab, which declares them as entry points of the group `kubypass.commands`."""

_EPILOG = """examples:
  kubypass box up && kubypass box apply -f examples/guide/my-nginx.yaml
  kubypass box exec node1 -- kubypass status
  kubypass trace --from pod/default/web-0 --to 10.233.30.47:80/tcp
  kubypass agent --manifests /etc/kubypass/manifests --node node1 --config cilium-config.yaml
  kubypass config check cilium-config.yaml

exit codes: 0 done and true; 1 it ran and the answer is no; 2 wrong usage or configuration
"""


def _module(name: str) -> ModuleType:
    """Imports the module of a command; ConfigError where its package is not installed."""
    if name in COMMANDS:
        return importlib.import_module(f"kubypass.cli.{name}")
    from importlib.metadata import entry_points

    for entry in entry_points(group="kubypass.commands", name=name):
        return cast("ModuleType", entry.load())
    raise ConfigError(f"{name} is not installed", "pip install 'kubypass[lab]'")


def installed_lab_commands() -> list[str]:
    """The commands of the lab, if it is installed."""
    from importlib.metadata import entry_points

    found = {entry.name for entry in entry_points(group="kubypass.commands")}
    return [name for name in LAB_COMMANDS if name in found]


def whole_parser(names: Iterable[str]) -> argparse.ArgumentParser:
    """The parser with all that these commands take."""
    parser, commands = _empty_parser()
    for name in names:
        _module(name).register(commands)
    return parser


def _parser(chosen: str | None) -> argparse.ArgumentParser:
    parser, commands = _empty_parser()
    for name, text in {**COMMANDS, **LAB_COMMANDS}.items():
        if name == chosen:
            _module(name).register(commands)
        else:
            commands.add_parser(name, help=text)
    return parser


def _empty_parser() -> tuple[
    argparse.ArgumentParser, argparse._SubParsersAction[argparse.ArgumentParser]
]:
    parser = argparse.ArgumentParser(
        prog="kubypass",
        description="Kubernetes services without kube-proxy: an eBPF datapath and its tools.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    return parser, parser.add_subparsers(dest="command", required=True, metavar="COMMAND")


def _run(words: list[str], chosen: str | None) -> int:
    parser = _parser(chosen)
    options, extra = parser.parse_known_args(words)
    if extra and chosen != "agent":
        parser.error(f"unrecognized arguments: {' '.join(extra)}")
    options.extra = extra
    return int(options.run(options))


def main(arguments: list[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    prepare_streams()
    repeat_lost_interrupts()
    words = sys.argv[1:] if arguments is None else arguments
    words = ["version"] if words == ["--version"] else words
    chosen = words[0] if words and words[0] in {*COMMANDS, *LAB_COMMANDS} else None
    try:
        try:
            return _run(words, chosen)
        finally:
            flush_output()
    except KubypassError as error:
        say_error(str(error))
        return 2 if isinstance(error, ConfigError) else 1
    except BrokenPipeError:
        discard_output()
        return 128 + signal.SIGPIPE
    except OSError as error:
        hint = "; run this as root" if isinstance(error, PermissionError) and os.geteuid() else ""
        say_error(f"{error}{hint}")
        return 1
    except KeyboardInterrupt:
        return 130
    except RuntimeError as error:
        if isinstance(
            error.__cause__, KeyboardInterrupt
        ):  # Ctrl-C while a class was made (__set_name__)
            return 130
        raise
    finally:
        if arguments is None:  # nothing is left to undo: Ctrl-C may end Python while it exits
            signal.signal(signal.SIGINT, signal.SIG_DFL)
