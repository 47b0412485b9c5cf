# SPDX-License-Identifier: Apache-2.0
"""Manifest files (YAML or JSON) as a source of objects."""
