# SPDX-License-Identifier: Apache-2.0
"""The only room that sees Kubernetes objects: reads them and hands on the model's words."""
