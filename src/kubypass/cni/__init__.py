# SPDX-License-Identifier: Apache-2.0
"""The pod network as container runtimes ask for it: the CNI specification, versions 0.3.0 to 1.1.0."""
