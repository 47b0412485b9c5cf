// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* Programs on the node's side of a pod's veth pair. */
#include "egress.h"
#include "ingress.h"

__noinline __u64 handle_from_pod(context *ctx)
{
	return handle_ingress(ctx, HOOK_FROM_POD).bits;
}

/* Handles every packet that a pod sends. */
SEC("tc")
int from_pod(context *ctx)
{
	return run_remaining_steps(ctx, HOOK_FROM_POD, handle_from_pod(ctx));
}

__noinline __u64 handle_to_pod(context *ctx)
{
	return handle_egress(ctx, HOOK_TO_POD).bits;
}

/* Handles packets that the node's own stack sends to a pod: replies of a backend in the node's network, and
 * connections whose source port clashes with a flow's. */
SEC("tc")
int to_pod(context *ctx)
{
	if (take_forwarded_mark(ctx))
		return ACTION_PASS;
	return run_remaining_steps(ctx, HOOK_TO_POD, handle_to_pod(ctx));
}

char _license[] SEC("license") = "Dual BSD/GPL";
