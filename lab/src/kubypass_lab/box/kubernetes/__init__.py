# SPDX-License-Identifier: Apache-2.0
"""A box with a real Kubernetes: its own control plane, kubelets and containerd, all in namespaces.

Nothing is pulled: programs are built from their Go modules, node software comes from Debian
packages, images are made of what the machine has.
"""
