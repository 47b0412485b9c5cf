# SPDX-License-Identifier: Apache-2.0
"""Puts the agents into a cluster and takes them out: the chart's values and objects, and a survey beforehand."""
