// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* Never loaded: all structs and enums of the ABI are in its BTF. The structs are those of maps and settings. */
#include "config.h"
#include "maps.h"

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
	enum inside_reason inside_reason;
	enum redirect_domain redirect_domain;
	enum verdict verdict;
	enum dsr_dispatch dsr_dispatch;
	enum dsr_refusal dsr_refusal;
};

const struct abi *abi;
