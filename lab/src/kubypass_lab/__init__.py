# SPDX-License-Identifier: Apache-2.0
"""The lab beside kubypass: clusters in network namespaces (`box`) and measurements (`bench`)."""
