// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* Never loaded: refers to every struct and enum of the ABI, so that all of them are in its BTF. */
#include "config.h"
#include "maps.h"

#pragma clang diagnostic ignored "-Wpadded" /* of this struct alone, which no map and no Python sees */

struct abi {
	enum service_flag service_flag;
	enum backend_list backend_list;
	enum backend_state backend_state;
	enum local_address_kind local_address_kind;
	enum flow_state flow_state;
	enum flow_direction flow_direction;
	enum flow_flag flow_flag;
	enum datagram_state datagram_state;
	enum abi_constant abi_constant;
	enum hook hook;
	enum previous_kind previous_kind;
	enum client_kind client_kind;
	enum local_detector local_detector;
	enum verdict verdict;
	struct frontend frontend;
	struct service service;
	struct backend backend;
	struct local_address local;
	struct pod_device pod_device;
	struct tuple tuple;
	struct flow flow;
	struct datagram datagram;
	struct datagram_ports datagram_ports;
	struct socket_peer socket_peer;
	struct socket_service socket_service;
	struct node_port node_port;
	struct refused_bind refused_bind;
	struct source_range source_range;
	struct affinity_client affinity_client;
	struct snat_destination snat_destination;
	struct affinity affinity;
	struct snat_failure snat_failure;
	struct counter counter;
	struct network network;
	struct node_addresses node_addresses;
	struct decision_record decision_record;
};

const struct abi *abi;
