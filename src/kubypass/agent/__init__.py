# SPDX-License-Identifier: Apache-2.0
"""Wires kube, plan and datapath together; owns the process."""
