# SPDX-License-Identifier: Apache-2.0
"""The words of kubypass: service, endpoint, node, pod, address. Imports nothing else of kubypass."""
