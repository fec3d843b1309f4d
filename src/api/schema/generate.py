#!/usr/bin/env python3
"""Writes table.txt: names, numbers and types of the API's fields, from the published Go definitions.

Usage: generate.py <clone of kubernetes/api> <clone of kubernetes/apimachinery> <tag, such as v0.33.1> > table.txt
The format is described in docs/schema.md. Only facts are taken over; no comments and no code.
"""

import re
import subprocess
import sys

# Directory in the api repository, API group.
PACKAGES = [
    ("core/v1", ""),
    ("apps/v1", "apps"),
    ("batch/v1", "batch"),
    ("autoscaling/v1", "autoscaling"),
    ("autoscaling/v2", "autoscaling"),
    ("policy/v1", "policy"),
    ("coordination/v1", "coordination.k8s.io"),
    ("discovery/v1", "discovery.k8s.io"),
    ("events/v1", "events.k8s.io"),
    ("networking/v1", "networking.k8s.io"),
    ("storage/v1", "storage.k8s.io"),
    ("scheduling/v1", "scheduling.k8s.io"),
    ("node/v1", "node.k8s.io"),
    ("rbac/v1", "rbac.authorization.k8s.io"),
    ("authorization/v1", "authorization.k8s.io"),
    ("authentication/v1", "authentication.k8s.io"),
    ("authentication/v1beta1", "authentication.k8s.io"),
    ("certificates/v1", "certificates.k8s.io"),
]
META = "k8s.io/apimachinery/pkg/apis/meta/v1"
# Kinds of the meta package that are bodies of requests; they are served in every group.
META_KINDS = ["DeleteOptions"]
# Kinds that are never the body of a request to us.
NOT_BODIES = re.compile(r"(List|Options|RangeAllocation|SerializedReference|PodStatusResult)$")

SPECIAL = {
    "k8s.io/apimachinery/pkg/api/resource.Quantity": "q",
    META + ".Time": "t",
    META + ".MicroTime": "u",
    "k8s.io/apimachinery/pkg/util/intstr.IntOrString": "o",
    "k8s.io/apimachinery/pkg/runtime.RawExtension": "x",
    META + ".FieldsV1": "x",
    "k8s.io/apimachinery/pkg/types.UID": "s",
}
SCALARS = {"string": "s", "bool": "b", "int32": "i", "int64": "l", "[]byte": "y"}


class Package:
    def __init__(self, path, text):
        self.path = path
        self.imports = {}
        for alias, target in re.findall(r'^\s*(\w+)?\s*"(k8s\.io/[^"]+)"', text, re.M):
            self.imports[alias or target.rsplit("/", 1)[1]] = target
        text = re.sub(r"/\*.*?\*/", "", text, flags=re.S)
        text = re.sub(r"^\s*//.*$", "", text, flags=re.M)
        self.structs = {}
        self.names = {}
        for name, body in re.findall(r"^type (\w+) struct \{\n(.*?)^\}", text, re.M | re.S):
            self.structs[name] = [line.strip() for line in body.splitlines() if line.strip()]
        for name, target in re.findall(r"^type (\w+) =? ?((?!struct|interface)[^\s{]+)", text, re.M):
            self.names[name] = target


def show(repository, tag, path):
    return subprocess.run(["git", "-C", repository, "show", f"{tag}:{path}"], check=True, capture_output=True, text=True).stdout


def resolve(package, go):
    """A Go type in a package -> (shape, pointer, type code or (package path, struct name))."""
    if go.startswith("*"):
        shape, _, inner = resolve(package, go[1:])
        return shape, True, inner
    if go in SCALARS:
        return "", False, SCALARS[go]
    if go.startswith("[]"):
        shape, _, inner = resolve(package, go[2:])
        assert not shape, go
        return "*", False, inner
    match = re.match(r"map\[[\w.]+\](.+)$", go)
    if match:
        shape, _, inner = resolve(package, match[1])
        assert not shape, go
        return "%", False, inner
    if "." in go:
        alias, name = go.split(".")
        path = package.imports[alias]
    else:
        path, name = package.path, go
    if f"{path}.{name}" in SPECIAL:
        return "", False, SPECIAL[f"{path}.{name}"]
    home = packages[path]
    if name in home.structs:
        return "", False, (path, name)
    target = home.names[name]
    if target.startswith("[]") and target != "[]byte":
        # A named list is a message of its own on the wire, with the list as its first field.
        return "", False, (path, name)
    return resolve(home, target)


FIELD = re.compile(r"^(?:(\w+)\s+)?([\w.*\[\]]+)\s+`([^`]*)`")


def fields(package, name):
    """(JSON name, number, shape, keep, type, patch rule) for each field of a struct."""
    if name not in package.structs:
        _, _, inner = resolve(package, package.names[name])
        return [("items", "1", "*", False, inner, "")]
    result = []
    for line in package.structs[name]:
        match = FIELD.match(line)
        assert match, f"{package.path}.{name}: {line}"
        _, go, tags = match.groups()
        tags = dict(re.findall(r'(\w+):"([^"]*)"', tags))
        json, *options = tags["json"].split(",")
        if json == "-":
            continue
        number = tags.get("protobuf", ",0").split(",")[1]
        if "inline" in options:
            if go.endswith("TypeMeta"):
                result += [("apiVersion", "0", "", False, "s", ""), ("kind", "0", "", False, "s", "")]
                continue
            shape, pointer, inner = resolve(package, go)
            assert not shape and not pointer, line
            result.append(("^", number, "", False, inner, ""))
            continue
        shape, pointer, inner = resolve(package, go)
        strategy = tags.get("patchStrategy", "")
        key = tags.get("patchMergeKey", "")
        rule = ""
        if shape == "*" and "merge" in strategy.split(","):
            rule = "&" + key
        elif not shape and strategy == "replace":
            rule = "="
        result.append((json, number, shape, pointer or "omitempty" not in options, inner, rule))
    return result


def main():
    api, machinery, tag = sys.argv[1:]
    for path, _ in PACKAGES:
        packages[f"k8s.io/api/{path}"] = Package(f"k8s.io/api/{path}", show(api, tag, f"{path}/types.go"))
    packages[META] = Package(META, show(machinery, tag, "pkg/apis/meta/v1/types.go"))

    kinds = []
    for path, group in PACKAGES:
        package = packages[f"k8s.io/api/{path}"]
        version = path.rsplit("/", 1)[1]
        for name, lines in package.structs.items():
            if any(re.match(r"(metav1\.)?TypeMeta\s", line) for line in lines) and not NOT_BODIES.search(name):
                kinds.append((f"{group}/{version}".lstrip("/"), name, (package.path, name)))
    kinds += [("*", name, (META, name)) for name in META_KINDS]

    order, seen, queue = [], set(), [message for _, _, message in kinds]
    while queue:
        message = queue.pop(0)
        if message in seen:
            continue
        seen.add(message)
        order.append(message)
        queue += [inner for *_, inner, _ in fields(packages[message[0]], message[1]) if isinstance(inner, tuple)]

    # Short names; where two packages have the same name, the later ones carry their package.
    short, taken = {}, set()
    for path, name in sorted(order, key=lambda message: list(packages).index(message[0])):
        group, version = path.rsplit("/", 2)[-2:]
        label = name if name not in taken else f"{group}/{version}.{name}"
        taken.add(label)
        short[(path, name)] = label

    print(f"# Kubernetes {tag}; written by generate.py, see docs/schema.md.")
    for group_version, kind, message in kinds:
        print(f"kind {group_version} {kind} {short[message]}")
    for message in sorted(order, key=short.get):
        package = packages[message[0]]
        word = "message" if message[1] in package.structs else "list"
        parts = []
        for json, number, shape, keep, inner, rule in fields(package, message[1]):
            kind = short[inner] if isinstance(inner, tuple) else inner
            parts.append(f"{json}:{number}{'!' if keep else ''}:{shape}{kind}{rule}")
        print(f"{word} {short[message]} {' '.join(parts)}")


packages = {}
main()
