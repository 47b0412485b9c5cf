# SPDX-License-Identifier: Apache-2.0
"""Serves the pod network to container runtimes: the CNI specification, versions 0.3.0 to 1.1.0."""
