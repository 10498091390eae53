#!/usr/bin/env python3
"""Makes the image of a folder: packaging/image.py ROOTFS TAR VERSION REVISION

TAR is an OCI layout (`skopeo copy oci-archive:TAR …`) and an archive of docker (`docker load --input
TAR`) in one. Its bytes follow from the folder, SOURCE_DATE_EPOCH and DIST_COMPRESSION.
"""

import gzip
import hashlib
import io
import json
import os
import sys
import tarfile
from datetime import datetime, timezone

COMPRESSION = int(os.environ["DIST_COMPRESSION"])
TIME = int(os.environ["SOURCE_DATE_EPOCH"])
CREATED = datetime.fromtimestamp(TIME, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
OCI = "application/vnd.oci.image."


def sha256(content):
    return "sha256:" + hashlib.sha256(content).hexdigest()


def of_root(info):
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    info.mtime = TIME
    return info


def layer_of(rootfs):
    """A tar of all files below rootfs, as root's, in the order of their names."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name in sorted(os.listdir(rootfs)):
            tar.add(os.path.join(rootfs, name), arcname=name, filter=of_root)
    return content.getvalue()


def dockerfile_of(path):
    """The configuration that the instructions of the Dockerfile beside rootfs describe."""
    config = {"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]}
    with open(path, encoding="utf-8") as file:
        for line in file:
            instruction, _, value = line.strip().partition(" ")
            if instruction == "ENV":
                config["Env"].append(value)
            elif instruction == "WORKDIR":
                config["WorkingDir"] = value
            elif instruction == "VOLUME":
                config["Volumes"] = {folder: {} for folder in value.split()}
            elif instruction == "EXPOSE":
                config["ExposedPorts"] = {f"{value}/tcp": {}}
            elif instruction in ("ENTRYPOINT", "CMD"):
                config[instruction.capitalize()] = json.loads(value)
            elif instruction not in ("", "#", "FROM", "ADD"):
                sys.exit(f"image: {path}: {instruction} is not known here")
    return config


def main():
    rootfs, output, version, revision = sys.argv[1:]
    blobs = {}

    def blob(media_type, content):
        blobs[sha256(content)] = content
        return {"mediaType": OCI + media_type, "digest": sha256(content), "size": len(content)}

    def document(media_type, value):
        return blob(media_type, json.dumps(value, separators=(",", ":")).encode())

    labels = {
        "org.opencontainers.image.title": "portcullis",
        "org.opencontainers.image.description": "A private container registry with TLS and passwords built in",
        "org.opencontainers.image.version": version,
        "org.opencontainers.image.licenses": "MIT OR Apache-2.0",
    }
    if revision:
        labels["org.opencontainers.image.revision"] = revision
    files = layer_of(rootfs)
    layer = blob("layer.v1.tar+gzip", gzip.compress(files, COMPRESSION, mtime=0))
    settings = dockerfile_of(os.path.join(os.path.dirname(rootfs), "Dockerfile"))
    entrypoint = settings.pop("Entrypoint")
    config = document("config.v1+json", {
        "created": CREATED,
        "architecture": "amd64",
        "os": "linux",
        "config": {**settings, "Entrypoint": entrypoint, "Labels": labels},
        "rootfs": {"type": "layers", "diff_ids": [sha256(files)]},
        "history": [{"created": CREATED, "created_by": "packaging/image.py"}],
    })
    manifest = document("manifest.v1+json", {
        "schemaVersion": 2,
        "mediaType": OCI + "manifest.v1+json",
        "config": config,
        "layers": [layer],
        "annotations": labels,
    })
    manifest["annotations"] = {"org.opencontainers.image.ref.name": version}
    path_of = lambda descriptor: "blobs/" + descriptor["digest"].replace(":", "/")
    index = {"schemaVersion": 2, "mediaType": OCI + "index.v1+json", "manifests": [manifest]}
    # The second description is docker's own, for versions that do not read OCI layouts.
    of_docker = [{
        "Config": path_of(config),
        "RepoTags": [f"portcullis:{version}", "portcullis:latest"],
        "Layers": [path_of(layer)],
    }]
    members = {
        "oci-layout": b'{"imageLayoutVersion":"1.0.0"}',
        "index.json": json.dumps(index).encode(),
        "manifest.json": json.dumps(of_docker).encode(),
        **{"blobs/" + digest.replace(":", "/"): blobs[digest] for digest in sorted(blobs)},
    }
    with tarfile.open(output, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in members.items():
            info = of_root(tarfile.TarInfo(name))
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


main()
