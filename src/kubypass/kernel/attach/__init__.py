# SPDX-License-Identifier: Apache-2.0
"""Attaching programs: a file for each kind of hook, and what links have in common (link.py)."""
