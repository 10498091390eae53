#!/usr/bin/env python3
"""Prints an SBOM (CycloneDX 1.5) of the binary and the image: packaging/sbom.py AUTHORITIES

It lists the crates that are linked on x86-64 Linux, with licences and the checksums of Cargo.lock, and
what the image has besides: glibc, which is linked statically, and the authorities.
"""

import hashlib
import json
import os
import re
import subprocess
import sys
from datetime import datetime, timezone

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")


def output_of(*command):
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout


def checksums():
    """The checksum of each package of Cargo.lock that comes from a registry."""
    with open(os.path.join(ROOT, "Cargo.lock"), encoding="utf-8") as file:
        packages = file.read().split("[[package]]")
    pattern = re.compile(r'name = "(.*)"\nversion = "(.*)"\n(?:source = .*\n)?checksum = "(.*)"')
    return {match.group(1, 2): match.group(3) for match in map(pattern.search, packages) if match}


def linked(metadata):
    """The packages that the binary is made of: ours, and what is reached without dev and build edges."""
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    root = metadata["resolve"]["root"]
    seen, waiting = {root}, [root]
    while waiting:
        for dep in nodes[waiting.pop()]["deps"]:
            normal = any(kind["kind"] is None for kind in dep["dep_kinds"])
            if normal and dep["pkg"] not in seen:
                seen.add(dep["pkg"])
                waiting.append(dep["pkg"])
    return root, {id: [dep["pkg"] for dep in nodes[id]["deps"] if dep["pkg"] in seen] for id in seen}


def component(package, sums):
    name, version = package["name"], package["version"]
    purl = f"pkg:cargo/{name}@{version}"
    found = {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}
    if package.get("license"):
        found["licenses"] = [{"expression": package["license"].replace("/", " OR ")}]
    if (name, version) in sums:
        found["hashes"] = [{"alg": "SHA-256", "content": sums[name, version]}]
    return found


def main():
    metadata = json.loads(output_of(
        "cargo", "metadata", "--locked", "--format-version", "1",
        "--filter-platform", "x86_64-unknown-linux-gnu"))
    sums = checksums()
    root, edges = linked(metadata)
    components = {
        package["id"]: component(package, sums)
        for package in metadata["packages"] if package["id"] in edges
    }
    ref = lambda id: components[id]["bom-ref"]
    dependencies = sorted(
        ({"ref": ref(id), "dependsOn": sorted(map(ref, deps))} for id, deps in edges.items()),
        key=lambda entry: entry["ref"])
    ours = components.pop(root)
    ours["type"] = "application"
    libc = os.confstr("CS_GNU_LIBC_VERSION").split()[1]
    with open(sys.argv[1], "rb") as file:
        authorities = hashlib.sha256(file.read()).hexdigest()
    others = [
        {"type": "library", "bom-ref": "glibc", "name": "glibc", "version": libc,
         "licenses": [{"expression": "LGPL-2.1-or-later"}]},
        {"type": "data", "bom-ref": "ca-certificates", "name": "ca-certificates",
         "hashes": [{"alg": "SHA-256", "content": authorities}]},
    ]
    time = datetime.fromtimestamp(int(os.environ["SOURCE_DATE_EPOCH"]), timezone.utc)
    print(json.dumps({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ"), "component": ours},
        "components": sorted(components.values(), key=lambda entry: entry["bom-ref"]) + others,
        "dependencies": dependencies,
    }, indent=1))


main()
