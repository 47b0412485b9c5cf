# SPDX-License-Identifier: Apache-2.0
"""A cluster's API as a source of objects: each resource is listed and watched by a thread."""
