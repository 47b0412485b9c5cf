# SPDX-License-Identifier: Apache-2.0
"""The words of kubypass: what a service, an endpoint, a node and a setting are. Imports nothing else of kubypass."""
