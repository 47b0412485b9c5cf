# SPDX-License-Identifier: Apache-2.0
"""Loads the programs, writes the maps, reads them back. Nobody else writes maps."""
