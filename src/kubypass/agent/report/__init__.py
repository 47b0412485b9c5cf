# SPDX-License-Identifier: Apache-2.0
"""What the agent reports: status, services, metrics."""
