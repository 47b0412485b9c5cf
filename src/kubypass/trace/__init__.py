# SPDX-License-Identifier: Apache-2.0
"""Runs one connection through the real programs and explains what they decided.

A connection comes from the command line (traced_node.py), on a live node (live_node.py) or on a node of given objects
(manifest_node.py), or from a line of JSON (batch.py). run.py sends its first packet through the programs
(programs.py), and explanation.py follows it and its answer. The host sees nothing of it.
"""
