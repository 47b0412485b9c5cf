# SPDX-License-Identifier: Apache-2.0
"""Where objects of the cluster come from, and how the agent follows them."""
