# SPDX-License-Identifier: Apache-2.0
"""The connection to API servers: addresses, certificates, tokens, single requests, and failures as messages."""
