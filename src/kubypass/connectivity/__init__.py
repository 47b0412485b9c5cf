# SPDX-License-Identifier: Apache-2.0
"""`kubypass connectivity test`: pods of its own in any cluster, which dial each other, services and the outside."""
