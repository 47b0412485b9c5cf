# SPDX-License-Identifier: Apache-2.0
"""Keys of Cilium that kubypass knows and does not act on: they are no typing errors."""

from __future__ import annotations

from typing import Final

CILIUM_KEYS: Final = frozenset(
    """
agent-health-port agent-not-ready-taint-key arping-refresh-period auto-create-cilium-node-resource
bgp-secrets-namespace bpf-auth-map-max bpf-ct-timeout-service-any bpf-ct-timeout-service-tcp
bpf-ct-timeout-service-tcp-grace bpf-distributed-lru bpf-events-default-burst-limit
bpf-events-default-rate-limit bpf-events-drop-enabled bpf-events-policy-verdict-enabled
bpf-events-trace-enabled bpf-filter-priority bpf-fragments-map-max bpf-lb-acceleration
bpf-lb-affinity-map-max bpf-lb-algorithm bpf-lb-algorithm-annotation bpf-lb-bypass-fib-lookup
bpf-lb-dsr-dispatch bpf-lb-dsr-l4-xlate bpf-lb-enable-wildcard-entries bpf-lb-maglev-hash-seed
bpf-lb-maglev-map-max bpf-lb-maglev-table-size bpf-lb-mode bpf-lb-mode-annotation
bpf-lb-rev-nat-map-max bpf-lb-rss-ipv4-src-cidr bpf-lb-rss-ipv6-src-cidr
bpf-lb-sock-terminate-pod-connections bpf-lb-source-range-all-types bpf-lb-source-range-map-max
bpf-map-dynamic-size-ratio bpf-map-event-buffers bpf-nat-global-max bpf-neigh-global-max
bpf-node-map-max bpf-policy-map-max bpf-policy-stats-map-max bpf-root ces-slice-mode cgroup-root
cilium-endpoint-gc-interval clean-cilium-bpf-state clean-cilium-state cluster-health-port
cluster-id cluster-name cluster-pool-ipv4-mask-size cluster-pool-ipv6-mask-size
clustermesh-enable-endpoint-sync clustermesh-enable-mcs-api cni-chaining-mode cni-exclusive
cni-log-file cni-uninstall conntrack-gc-interval controller-group-metrics custom-cni-conf
datapath-mode debug debug-verbose default-lb-service-ipam direct-routing-skip-unreachable
disable-cnp-status-updates disable-endpoint-crd disable-envoy-version-check
disable-external-ip-mitigation dnsproxy-enable-transparent-mode dnsproxy-socket-linger-timeout
egress-gateway-reconciliation-trigger-interval egress-masquerade-interfaces
enable-auto-protect-node-port-range enable-bandwidth-manager enable-bbr enable-bbr-hostns-only
enable-bgp-control-plane enable-bpf-clock-probe enable-bpf-tproxy
enable-cilium-clusterwide-network-policy enable-cilium-endpoint-slice enable-cilium-network-policy
enable-custom-calls enable-dynamic-source-lookup-nodeport enable-encryption-strict-mode
enable-endpoint-health-checking enable-endpoint-lockdown-on-policy-overflow enable-endpoint-routes
enable-envoy-config enable-external-ips enable-gateway-api enable-health-check-loadbalancer-ip
enable-health-check-nodeport enable-health-checking enable-host-firewall
enable-host-legacy-routing enable-hubble enable-hubble-open-metrics enable-identity-mark
enable-ingress-controller enable-ip-masq-agent enable-ipsec enable-ipv4-big-tcp
enable-ipv4-egress-gateway enable-ipv4-fragment-tracking enable-ipv6-big-tcp enable-k8s
enable-k8s-api-discovery enable-k8s-endpoint-slice enable-k8s-event-handover
enable-k8s-networkpolicy enable-k8s-terminating-endpoint enable-l2-announcements
enable-l2-neigh-discovery enable-l2-pod-announcements enable-l7-proxy enable-lb-ipam
enable-local-node-route enable-local-redirect-policy enable-masquerade-to-route-source
enable-metrics enable-monitor enable-nat46x64-gateway enable-node-ipam enable-node-selector-labels
enable-non-default-deny-policies enable-pmtu-discovery enable-policy enable-policy-secrets-sync
enable-recorder enable-remote-node-identity enable-runtime-device-detection enable-sctp
enable-service-topology enable-session-affinity enable-source-ip-verification enable-srv6
enable-stale-cilium-endpoint-cleanup enable-svc-source-range-check enable-tcx
enable-tunnel-big-tcp enable-vtep enable-well-known-identities enable-wireguard
enable-xdp-prefilter enable-xt-socket-fallback encryption-strict-mode-cidr
envoy-access-log-buffer-size envoy-base-id envoy-config envoy-keep-cap-netbindservice
external-envoy-proxy force-device-detection health-check-icmp-failure-threshold hubble-disable-tls
hubble-event-buffer-capacity hubble-event-queue-size hubble-export-file-max-backups
hubble-export-file-max-size-mb hubble-flow-buffer-size hubble-listen-address hubble-metrics
hubble-metrics-server hubble-metrics-server-enable-tls hubble-network-policy-correlation-enabled
hubble-prefer-ipv6 hubble-socket-path hubble-tls-cert-file hubble-tls-client-ca-files
hubble-tls-key-file identity-allocation-mode identity-gc-interval identity-heartbeat-timeout
identity-management-mode install-iptables-rules install-no-conntrack-iptables-rules ipam
ipam-cilium-node-update-rate iptables-random-fully ipv4-node ipv4-range
ipv4-service-loopback-address ipv4-service-range ipv6-node ipv6-range ipv6-service-range
k8s-api-server k8s-api-server-urls k8s-client-burst k8s-client-qps k8s-heartbeat-timeout
k8s-namespace k8s-require-ipv4-pod-cidr k8s-require-ipv6-pod-cidr k8s-sync-timeout keep-config
kube-proxy-replacement-healthz-bind-address kvstore kvstore-opt labels lb-init-wait-timeout
lb-test-fault-probability loadbalancer-l7 local-router-ipv4 local-router-ipv6 log-driver log-opt
log-system-load lrp-address-matcher-cidrs masquerade max-connected-clusters mesh-auth-enabled
mesh-auth-gc-interval mesh-auth-queue-size mesh-auth-rotated-identities-queue-size metrics
monitor-aggregation monitor-aggregation-flags monitor-aggregation-interval monitor-queue-size mtu
nat-map-stats-entries nat-map-stats-interval node-encryption-opt-out-labels node-port-acceleration
node-port-algorithm node-port-bind-protection node-port-mode node-port-nat-range-ext
nodes-gc-interval operator-api-serve-addr operator-prometheus-serve-addr policy-audit-mode
policy-cidr-match-mode policy-default-local-cluster policy-secrets-namespace
policy-secrets-only-from-secrets-namespace preallocate-bpf-maps procfs prometheus-serve-addr
proxy-connect-timeout proxy-idle-timeout-seconds proxy-initial-fetch-timeout
proxy-max-concurrent-retries proxy-max-connection-duration-seconds
proxy-max-requests-per-connection proxy-prometheus-port proxy-xff-num-trusted-hops-egress
proxy-xff-num-trusted-hops-ingress read-cni-conf remove-cilium-node-taints restore
service-no-backend-response set-cilium-is-up-condition set-cilium-node-taints
sidecar-istio-proxy-image skip-cnp-status-startup-clean socket-lb-tracing socket-path state-dir
synchronize-k8s-nodes tofqdns-dns-reject-response-code tofqdns-enable-dns-compression
tofqdns-endpoint-max-ip-per-hostname tofqdns-idle-connection-grace-period
tofqdns-max-deferred-connection-deletes tofqdns-min-ttl tofqdns-preallocate-identities
tofqdns-proxy-port tofqdns-proxy-response-max-delay trace-payloadlen trace-sock tunnel-port
tunnel-protocol tunnel-source-port-range underlay-protocol unmanaged-pod-watcher-interval
vtep-cidr vtep-endpoint vtep-mac vtep-mask wireguard-persistent-keepalive
write-cni-conf-when-ready
""".split()
)
