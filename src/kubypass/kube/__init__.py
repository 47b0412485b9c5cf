# SPDX-License-Identifier: Apache-2.0
"""The only room that sees Kubernetes objects: it reads them from the API or from files, and converts them to the model.

`client` connects to servers, `watch` lists and watches the API's resources, `manifests` reads files, `convert` turns
objects as they are written (`wire`) into the model's types. The `store` holds the objects, a `snapshot` shows them.
"""
