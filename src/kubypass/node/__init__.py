# SPDX-License-Identifier: Apache-2.0
"""What this node is, what kubypass changes on it, and the record that undoes the changes."""
