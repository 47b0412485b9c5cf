# SPDX-License-Identifier: Apache-2.0
"""A load balancer's Service that clients outside reach in DSR mode, and the client."""

from __future__ import annotations

CLIENT_ADDRESS = {4: "203.0.113.9", 6: "2001:db8:cafe::9"}
VIP = {4: "198.51.100.7", 6: "2001:db8:51::7"}
SERVICE = """
    apiVersion: v1
    kind: Service
    metadata: {{name: direct, annotations: {{{annotations}}}}}
    spec:
      type: LoadBalancer
      ipFamilyPolicy: RequireDualStack
      selector: {{app: echo}}
      ports:
      - {{name: web, port: 8000, targetPort: web}}
      - {{name: dns, port: 53, targetPort: dns, protocol: UDP}}
    status: {{loadBalancer: {{ingress: [{{ip: 198.51.100.7}}, {{ip: "2001:db8:51::7"}}]}}}}
    """
