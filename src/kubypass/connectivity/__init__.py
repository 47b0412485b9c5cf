# SPDX-License-Identifier: Apache-2.0
"""`kubypass connectivity test`: test pods in any cluster that connect to each other, to services and to the outside."""
