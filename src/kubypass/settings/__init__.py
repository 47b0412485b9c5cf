# SPDX-License-Identifier: Apache-2.0
"""Every setting: its key, type, default, meaning and effect, and how it is read from text and from files."""
