# SPDX-License-Identifier: Apache-2.0
"""Runs one packet through the real programs and tells its story. Nothing of it is seen by the host."""
