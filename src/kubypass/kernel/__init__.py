# SPDX-License-Identifier: Apache-2.0
"""Every system call of kubypass. Knows no Kubernetes, and no other room."""
