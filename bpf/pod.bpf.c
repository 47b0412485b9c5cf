// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* Programs on the node's side of a pod's veth pair. */
#include "egress.h"
#include "ingress.h"

/* Handles every packet that a pod sends. */
PACKET_PROGRAM(from_pod, HOOK_FROM_POD, handle_ingress)

/* Handles packets that the node's own stack sends to a pod: replies of a backend in the node's network, and
 * connections whose source port clashes with a flow's. */
PACKET_PROGRAM(to_pod, HOOK_TO_POD, handle_egress)

char _license[] SEC("license") = "Dual BSD/GPL";
