# SPDX-License-Identifier: Apache-2.0
"""A cluster in a box: nodes, pods and an external client as network namespaces of one machine.

No Kubernetes runs here. The box keeps the objects that were applied, starts pods as ordinary processes, and writes
Services, EndpointSlices and Nodes into a directory that each node's agent follows.
"""
