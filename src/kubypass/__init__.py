# SPDX-License-Identifier: Apache-2.0
"""Kubernetes service networking without kube-proxy: an eBPF datapath and its control plane."""
