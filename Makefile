# SPDX-License-Identifier: Apache-2.0
# `make` lists the targets. Each works as the first command on a fresh Debian 12 machine, as root.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

BUILD := build
PYTHON := .venv/bin/python
PACKAGES := clang-19 clang-format-19 llvm-19 libbpf-dev libbpf1 bpftool iproute2 iptables nftables nginx-light curl ethtool \
	tcpdump procps python3-venv gcc make libc6-dev
BPF_CFLAGS := -O2 -g -Wall -Wextra -Wpadded -Werror -Wno-unused-parameter -target bpf -I/usr/include/$(shell uname -m)-linux-gnu \
	-DL2_BYTES=14# the Ethernet header's
BARE_IP := -UL2_BYTES -DL2_BYTES=0# devices whose packets have no such header
SKB := -Ibpf -Ibpf/skb# the context of tc hooks
XDP := -Ibpf -Ibpf/xdp# the context of XDP hooks
OBJECTS := $(patsubst bpf/%.bpf.c,$(BUILD)/bpf/%.bpf.o,$(wildcard bpf/*.bpf.c)) $(BUILD)/bpf/host_l3.bpf.o

VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
WHEEL := $(BUILD)/wheel/kubypass-$(VERSION)-py3-none-any.whl

GUEST_TESTS := env KUBYPASS_SLOWNESS=10 .venv/bin/pytest --color=no -q --tb=short -p no:cacheprovider
KERNEL_ROWS := tests/packet/test_affinity.py tests/packet/test_forward.py

.PHONY: help install build layout format check test test-legacy-routing test-all-options test-kubernetes test-kernels fuzz flood mutation demo box demo-kubernetes e2e bench soak soak-kubernetes wheel image containerfile manifests clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(BUILD)/packages: scripts/install-packages
	@mkdir -p $(BUILD)
	scripts/install-packages $(PACKAGES)
	@touch $@

.venv/ready: pyproject.toml lab/pyproject.toml $(BUILD)/packages | $(OBJECTS) $(BUILD)/cni/kubypass-cni
	@test -x $(PYTHON) || /usr/bin/python3 -m venv .venv
	@echo "installing Python packages"
	@.venv/bin/pip install --quiet --disable-pip-version-check -e '.[test]' -e './lab[plot]'
	@touch $@

install: $(BUILD)/packages .venv/ready ## Debian packages and the virtual environment

$(BUILD)/bpf/%.bpf.o: bpf/%.bpf.c $(wildcard bpf/*.h bpf/skb/*.h) | $(BUILD)/packages
	@mkdir -p $(@D)
	clang-19 $(BPF_CFLAGS) $(SKB) -c $< -o $@

$(BUILD)/bpf/xdp.bpf.o: bpf/xdp.bpf.c $(wildcard bpf/*.h bpf/xdp/*.h) | $(BUILD)/packages
	@mkdir -p $(@D)
	clang-19 $(BPF_CFLAGS) $(XDP) -c $< -o $@

# The same code for devices without Ethernet header.
$(BUILD)/bpf/host_l3.bpf.o: bpf/host.bpf.c $(wildcard bpf/*.h bpf/skb/*.h) | $(BUILD)/packages
	@mkdir -p $(@D)
	clang-19 $(BPF_CFLAGS) $(BARE_IP) $(SKB) -c $< -o $@

# The same code with the context of each kind of hook.
$(BUILD)/tests/seam.%.bpf.o: tests/packet/seam.bpf.c $(wildcard bpf/*.h bpf/skb/*.h bpf/xdp/*.h) | $(BUILD)/packages
	@mkdir -p $(@D)
	clang-19 $(BPF_CFLAGS) -Ibpf -Ibpf/$* -c $< -o $@

$(BUILD)/tests/restore.%.bpf.o: tests/packet/restore.bpf.c $(wildcard bpf/*.h bpf/skb/*.h bpf/xdp/*.h) | $(BUILD)/packages
	@mkdir -p $(@D)
	clang-19 $(BPF_CFLAGS) -Ibpf -Ibpf/$* -c $< -o $@

$(BUILD)/cni/kubypass-cni: cni/kubypass-cni.c | $(BUILD)/packages
	@mkdir -p $(@D)
	gcc -static -s -O2 -Wall -Wextra -Werror -o $@ $<

$(BUILD)/bench/%: lab/src/kubypass_lab/bench/%.c | $(BUILD)/packages
	@mkdir -p $(@D)
	gcc -O2 -Wall -Wextra -Werror -o $@ $<

$(BUILD)/tests/fuzz: tests/fuzz/fuzz.c $(wildcard tests/fuzz/*.h) bpf/kubypass.h bpf/verdict.h | $(BUILD)/packages
	@mkdir -p $(@D)
	gcc -O2 -Wall -Wextra -Werror -Ibpf -o $@ $<

build: $(OBJECTS) $(BUILD)/cni/kubypass-cni $(patsubst lab/src/kubypass_lab/%.c,$(BUILD)/%,$(wildcard lab/src/kubypass_lab/bench/*.c)) \
	$(if $(wildcard tests/fuzz/fuzz.c),$(BUILD)/tests/fuzz $(foreach kind,skb xdp,$(BUILD)/tests/seam.$(kind).bpf.o $(BUILD)/tests/restore.$(kind).bpf.o))
build: ## the BPF objects, the CNI plugin, the measuring client and the fuzzer

layout: build .venv/ready ## regenerate what Python knows of the BPF structs, and the generated pages of docs/; as root
	$(PYTHON) -m kubypass.datapath.generate $(BUILD)/bpf src/kubypass
	.venv/bin/ruff format --quiet src/kubypass/datapath/layout.py src/kubypass/model/verdict.py src/kubypass/model/constants.py
	$(PYTHON) -m kubypass.settings.document > docs/settings.md
	$(PYTHON) -m kubypass.agent.report.option_doc > docs/status.md
	$(PYTHON) -m kubypass.datapath.map_document bpf $(BUILD)/bpf > docs/maps.md
	$(PYTHON) -m kubypass.cli.completion deploy/shell
	$(PYTHON) -m tests.house.programs > docs/programs.md

format: .venv/ready ## format C and Python
	clang-format-19 -i --style=file:bpf/.clang-format $(shell find bpf cni tests/fuzz lab/src -name '*.[ch]')
	.venv/bin/ruff format src lab tests scripts
	.venv/bin/ruff check --fix --quiet src lab tests scripts

check: install build ## the rules of the house only
	.venv/bin/pytest -q tests/house

soak: install build ## five minutes of updates under traffic, every answer checked (SOAK_SECONDS, SOAK_SEED)
	SOAK_SECONDS=$${SOAK_SECONDS:-150} .venv/bin/pytest -q -s tests/box/test_soak.py

soak-kubernetes: install build ## the same on a real Kubernetes: agents, API servers, nodes, 200 pods, churn; 40 minutes (LOST_*)
	env LOST_NODES=$${LOST_NODES:-3} LOST_PODS=$${LOST_PODS:-200} LOST_AWAY_S=$${LOST_AWAY_S:-300} \
		LOST_CHURN_S=$${LOST_CHURN_S:-600} LOST_KILLS=$${LOST_KILLS:-20} \
		.venv/bin/pytest -q -s tests/kubernetes/test_nothing_lost.py

test: install build ## all tests that need no Kubernetes
	.venv/bin/pytest -q -n 2 --dist loadfile --ignore=tests/kubernetes tests

test-legacy-routing: install build ## tests/box once more, with legacy host routing below a stateful firewall of each node
	env KUBYPASS_FIREWALL=yes KUBYPASS_SETTINGS='enable-host-legacy-routing: "true"' .venv/bin/pytest -q tests/box

test-all-options: install build ## tests/box once more, with all routing options together: DSR, Maglev, XDP
	env KUBYPASS_SETTINGS='bpf-lb-mode: dsr; bpf-lb-dsr-dispatch: auto; bpf-lb-algorithm: maglev; bpf-lb-acceleration: generic' \
		.venv/bin/pytest -q tests/box

test-kubernetes: install build ## tests on a real Kubernetes; builds its programs first, once (20 minutes)
	scripts/helm
	.venv/bin/pytest -q tests/unit/install tests/kubernetes
	$(PYTHON) tests/kubernetes/e2e.py --fast --proxy kubypass

test-kernels: install build ## a choice of tests under Debian's 5.10, 6.1 and 6.12, emulated; half an hour; docs/kernels.md
	scripts/with-kernel bullseye/linux-image-amd64 $(GUEST_TESTS) $(KERNEL_ROWS) tests/packet/test_services.py
	scripts/with-kernel linux-image-amd64 $(GUEST_TESTS) $(KERNEL_ROWS) tests/agent/test_agent.py
	scripts/with-kernel linux-image-6.12-amd64 $(GUEST_TESTS) $(KERNEL_ROWS) tests/agent/test_agent.py

fuzz: install build ## five million random and malformed packets through every program; ten minutes
	KUBYPASS_FUZZ=5000000 .venv/bin/pytest -q -s tests/fuzz

flood: install build ## two million forged SYNs and as many datagrams, from outside and from a pod, of each family; half an hour
	KUBYPASS_FORGED=1000000 KUBYPASS_FLOWS=262144 .venv/bin/pytest -q -s tests/agent/test_floods.py
	KUBYPASS_FORGED=150000 KUBYPASS_FLOWS=262144 KUBYPASS_FLOOD_RATE=9000 .venv/bin/pytest -q -s tests/agent/test_floods.py

mutation: install build ## a hundred deliberate faults, one at a time: do the tests notice? a quarter of an hour
	$(PYTHON) tests/mutation/run.py

demo: install build ## the guide's scenario, in a cluster in a box
	@.venv/bin/kubypass box demo

demo-kubernetes: install build ## the guide with kubectl on a real Kubernetes, first with kube-proxy, then without
	@.venv/bin/kubypass box demo-kubernetes

e2e: install build ## Kubernetes' own tests of Services, with kubypass and with kube-proxy; half an hour; docs/e2e.md
	$(PYTHON) tests/kubernetes/e2e.py $(E2E)

bench: install build ## paired measurements with a control, the agent at scale, next to kube-proxy: bench/
	.venv/bin/kubypass bench connect --json bench/connect.json --plot bench/connect.png
	.venv/bin/kubypass bench scale --json bench/scale.json
	.venv/bin/kubypass bench packets --base f8889ae --json bench/packets.json
	.venv/bin/kubypass bench kubernetes --json bench/kubernetes.json --plot bench/kubernetes.png
	.venv/bin/pytest -q -s --cost tests/packet/test_cost_in_loops.py tests/packet/test_live_rate.py

$(WHEEL): $(shell find lab/src -name '*.py') lab/pyproject.toml scripts/image_archive.py
$(WHEEL): $(OBJECTS) $(BUILD)/cni/kubypass-cni deploy/kubypass.yaml $(shell find src -name '*.py') pyproject.toml README.md .venv/ready
	@mkdir -p $(@D)
	.venv/bin/pip wheel --quiet --disable-pip-version-check --no-deps -w $(@D) . ./lab
	@touch $@

wheel: install build $(WHEEL) ## build/wheel: the package with its BPF objects (a node needs no compiler), and beside it that of the lab

image: wheel ## build/image/kubypass.tar: the agent's image, from Debian's packages and the wheel, without a registry
	@scripts/install-packages mmdebstrap
	@$(PYTHON) scripts/build-image

containerfile: image ## deploy/Containerfile, built by buildah on a base that is made here: is it the image of `make image`? a minute
	@scripts/install-packages buildah mmdebstrap ca-certificates
	@scripts/build-containerfile

manifests: ## deploy/kubypass.yaml, from the chart (by helm, which is built on first use)
	scripts/render-manifests > deploy/kubypass.yaml.new
	mv deploy/kubypass.yaml.new deploy/kubypass.yaml

clean: ## everything that was built
	rm -rf $(BUILD) .venv
