# SPDX-License-Identifier: Apache-2.0
"""The words of kubypass: service, endpoint, node, setting. Imports nothing else of kubypass."""
