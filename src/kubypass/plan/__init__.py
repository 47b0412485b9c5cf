# SPDX-License-Identifier: Apache-2.0
"""Pure: what the cluster's objects mean for this node. Does no I/O and cannot fail."""
