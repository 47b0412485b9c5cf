# SPDX-License-Identifier: Apache-2.0
"""Every system call of kubypass. It knows neither Kubernetes nor any other room."""
