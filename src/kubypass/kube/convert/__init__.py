# SPDX-License-Identifier: Apache-2.0
"""Conversion of Kubernetes objects to the model's types."""
