# SPDX-License-Identifier: Apache-2.0
"""The numbers of rtnetlink(7): linux/netlink.h, rtnetlink.h, if_link.h, if_addr.h, neighbour.h and veth.h."""

from __future__ import annotations

# Flags of a request, and types of an answer.
REQUEST, ACK, DUMP = 0x1, 0x4, 0x300
REPLACE, EXCLUSIVE, CREATE = 0x100, 0x200, 0x400
ERROR, DONE = 2, 3

# Types of messages.
NEW_LINK, DEL_LINK, GET_LINK = 16, 17, 18
NEW_ADDRESS, GET_ADDRESS = 20, 22
NEW_ROUTE, DEL_ROUTE, GET_ROUTE = 24, 25, 26
NEW_NEIGHBOUR = 28
DEL_QDISC, NEW_FILTER, DEL_FILTER = 37, 44, 45
NEW_NETCONF = 80

# Groups that a socket can listen to.
GROUP_LINK, GROUP_IPV4_ADDRESS, GROUP_IPV6_ADDRESS = 0x1, 0x10, 0x100
GROUP_IPV4_ROUTE, GROUP_IPV4_RULE, GROUP_IPV6_ROUTE = 0x40, 0x80, 0x400
GROUP_IPV6_RULE, GROUP_NEXTHOP = 0x4_0000, 0x8000_0000
GROUP_TC, GROUP_IPV4_NETCONF, GROUP_IPV6_NETCONF = 0x8, 0x80_0000, 0x100_0000
OF_TC, OF_NETCONF = frozenset({*range(36, 51), *range(100, 103)}), frozenset({80, 81, 82})
"""All types of messages of those groups."""

# An option of the socket, level and name: the kernel checks requests, and heeds their filters (since Linux 4.20).
SOL_NETLINK, GET_STRICT_CHECK = 270, 12

# Devices: IFLA_* attributes, flags, and what veth adds.
IFLA_ADDRESS, IFLA_BROADCAST, IFLA_IFNAME, IFLA_MTU, IFLA_LINK, IFLA_MASTER = 1, 2, 3, 4, 5, 10
IFLA_LINKINFO, IFLA_NET_NS_FD, IFLA_EXT_MASK, IFLA_LINK_NETNSID = 18, 28, 29, 37
IFLA_INFO_KIND, IFLA_INFO_DATA, VETH_INFO_PEER = 1, 2, 1
IFF_UP = 1
SKIP_STATISTICS = 8

# Types of devices: ARPHRD_* of linux/if_arp.h. Those without a header are what dev_is_mac_header_xmit() of the kernel
# names: redirects to them remove the header.
WITH_ETHERNET_HEADER = frozenset({1, 772})  # ETHER, LOOPBACK
GRE_DEVICES = frozenset({778, 823})  # IPGRE, IP6GRE
WITHOUT_HEADER = GRE_DEVICES | {512, 519, 768, 769, 776, 0xFFFE, 0xFFFF}
# PPP, RAWIP, TUNNEL, TUNNEL6, SIT, NONE, VOID

# What a device does with packets: its settings below /proc/sys/net.
NETCONFA_FORWARDING, NETCONFA_RP_FILTER = 2, 3

# Addresses and neighbours.
IFA_ADDRESS, IFA_LOCAL, IFA_F_NODAD = 1, 2, 0x02
NDA_DST, NDA_LLADDR, NUD_PERMANENT = 1, 2, 0x80

# Routes: RTA_* attributes, tables, protocols, scopes and types.
RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_PREFSRC, RTA_METRICS = 1, 4, 5, 7, 8
RTA_MULTIPATH, RTAX_MTU, ROUTE_MATCH = 9, 2, 0x2000
TABLE_MAIN, TABLE_LOCAL, PROTOCOL_BOOT, TYPE_UNICAST = 254, 255, 3, 1
PROTOCOLS_OF_ROUTERS = frozenset({8, *range(10, 16), 17, 42, 99, 186, 187, 188, 189, 192})
# GATED, MRT, ZEBRA, BIRD, DNROUTED, XORP, NTK, MROUTED, BABEL, OPENR, BGP, ISIS, OSPF, RIP, EIGRP
SCOPE_UNIVERSE, SCOPE_LINK = 0, 253
