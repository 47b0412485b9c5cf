# SPDX-License-Identifier: Apache-2.0
"""Plans what the cluster's objects mean for this node. It does no I/O and cannot fail."""
