# SPDX-License-Identifier: Apache-2.0
"""The local API: status, services, metrics and health, on a unix socket. It only reads."""
