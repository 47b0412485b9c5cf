# SPDX-License-Identifier: Apache-2.0
"""A box with a real Kubernetes: its control plane, kubelets and containerd, all in namespaces.

Nothing is pulled: programs are built from their Go modules, node software comes from Debian packages, and images are
made from this machine's programs.
"""
