# SPDX-License-Identifier: Apache-2.0
"""The HTTP API: status, services, metrics and health, on a unix socket and on TCP ports. It only reads."""
