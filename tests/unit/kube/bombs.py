# SPDX-License-Identifier: Apache-2.0
"""Small files that are made to harm a parser, or that parsers read differently."""

from __future__ import annotations


def aliases(levels: int, width: int) -> bytes:
    """`*l8` stands for width ** levels texts (the "billion laughs")."""
    lines = ["l0: &l0 [x]"]
    lines += [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * width)}]" for n in range(1, levels)]
    lines += [f"apiVersion: v1\nkind: Service\nmetadata: {{name: web}}\nspec: *l{levels - 1}"]
    return "\n".join(lines).encode()


ITEMS = b"apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec:\n  clusterIP: 10.96.0.1\n"
BOMBS = {
    "aliases.yaml": aliases(30, 10),
    "aliases-in-place.yaml": aliases(9, 9).replace(b"spec: *l8", b"spec: {ports: *l8}"),
    "itself.yaml": b"&a {apiVersion: v1, kind: List, items: [*a]}",
    "itself-deep.yaml": b"apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: &s {ports: [*s]}",
    "itself-list.yaml": b"&a [*a, *a]",
    "merge.yaml": b"a: &a {x: 1}\nb: &b {<<: [*a, *a]}\n" * 200,
    "deep.yaml": b"a: " + b"[" * 100_000,
    "deep-flow.yaml": b"{a: " * 20_000,
    "deep-block.yaml": b"".join(b" " * n + b"a:\n" for n in range(2000)),
    "deep.json": b'{"kind": "Service", "apiVersion": "v1", "spec": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "deep-object.json": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "number.yaml": ITEMS + b"  ports: [{port: " + b"9" * 200_000 + b"}]",
    "number.json": b'{"kind": "Service", "apiVersion": "v1", "spec": {"ports": [{"port": ' + b"9" * 200_000 + b"}]}}",
    "hex.yaml": ITEMS + b"  ports: [{port: 0x" + b"f" * 200_000 + b"}]",
    "sexagesimal.yaml": ITEMS + b"  ports: [{port: 1" + b":59" * 50_000 + b"}]",
    "octal-address.yaml": ITEMS + b"  externalIPs: ['" + b"0" * 100_000 + b"1.2.3.4', '" + b"1." * 50_000 + b"1']",
    "selector.yaml": b"apiVersion: v1\nkind: Service\nmetadata:\n  name: web\n  annotations:\n    "
    b"service.cilium.io/node-selector: '" + b"a-" * 50_000 + b"!'\nspec: {clusterIP: 10.96.0.1}",
    "selectors.yaml": b"apiVersion: v1\nkind: Service\nmetadata:\n  name: web\n  annotations:\n    "
    b"service.cilium.io/node-selector: '" + b"a in (b," + b" " * 50_000 + b"'\nspec: {clusterIP: 10.96.0.1}",
    "duplicates.yaml": b"apiVersion: v1\nkind: Service\nkind: Node\nmetadata: {name: a, name: b}\nspec: {}",
    "duplicates.json": b'{"apiVersion": "v1", "kind": "Pod", "kind": "Service", "metadata": {"name": 1, "name": "w"}}',
    "nan.json": b'{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "w"}, "spec": {"ports": [NaN]}}',
    "nan.yaml": ITEMS + b"  ports: [{port: .nan}, {port: .inf}, {port: -.inf}, {port: 1_0}, {port: 8e1}, {port: 80.0}]",
    "utf8.yaml": b"apiVersion: v1\nkind: Service\nmetadata: {name: \xff\xfe}\n",
    "utf8.json": b'{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "\xc3\x28"}}',
    "utf16.yaml": "apiVersion: v1\nkind: Service".encode("utf-16"),
    "nul.yaml": b"apiVersion: v1\0\nkind: Service",
    "tags.yaml": b"apiVersion: v1\nkind: !!python/object/apply:os.system ['true']\nmetadata: !!set {a, b}",
    "binary.yaml": b"apiVersion: v1\nkind: Service\nmetadata: {name: !!binary aGVsbG8=}\nspec: !!omap [a: 1]",
    "binary-wrong.yaml": b"apiVersion: v1\nkind: Service\nmetadata: {name: !!binary '%'}\nspec: {}",
    "timestamp.yaml": b"apiVersion: v1\nkind: Service\nmetadata: {name: !!timestamp 2024-99-99}",
    "integer.yaml": b"apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {ports: [{port: !!int ''}]}",
    "float.yaml": b"apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {ports: [{port: !!float 'x'}]}",
    "boolean.yaml": b"apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {ports: !!bool 'x'}",
    "keys.yaml": b"apiVersion: v1\nkind: Service\n? [a, b]\n: 1\n? {a: b}\n: 2\nmetadata: {name: web, 1: 2, null: 3}",
    "items.yaml": b"apiVersion: v1\nkind: List\nitems: 7",
    "items-text.yaml": b"apiVersion: v1\nkind: List\nitems: text",
    "items-mapping.yaml": b"apiVersion: v1\nkind: ServiceList\nitems: {a: b}",
    "items-mixed.yaml": b"apiVersion: v1\nkind: ServiceList\nitems: [null, 1, [], {}, {kind: 3}, {kind: [Node]}]",
    "kinds.yaml": b"apiVersion: [v1]\nkind: {Service: 1}\n---\n- 1\n---\ntext\n---\n5\n",
    "documents.yaml": b"---\n" * 50_000,
    "empty-names.yaml": b"apiVersion: v1\nkind: Service\nmetadata: {name: '', namespace: ''}",
    "slash.yaml": b"apiVersion: v1\nkind: Service\nmetadata: {name: pod/web}\nspec: {clusterIP: 10.96.0.9}",
}  # fmt: skip
