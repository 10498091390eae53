#!/usr/bin/env bash
# Lays the files of the image out: packaging/rootfs.sh BINARY FOLDER
set -euo pipefail

image=$(cd "$(dirname "$0")" && pwd)/image
binary=$1 rootfs=$2

umask 022
install -D -m 755 "$binary" "$rootfs/bin/portcullis"
# As in registry:2's image, and in httpd's: `docker exec … registry garbage-collect`,
# `docker run --entrypoint htpasswd`.
ln -s portcullis "$rootfs/bin/registry"
ln -s portcullis "$rootfs/bin/htpasswd"
install -D -m 644 "$image/config.yml" "$rootfs/etc/portcullis/config.yml"
install -m 644 "$image"/{passwd,group,nsswitch.conf} "$rootfs/etc/"
install -D -m 644 /etc/ssl/certs/ca-certificates.crt "$rootfs/etc/ssl/certs/ca-certificates.crt"
# A new volume takes the mode of the folder that it is mounted over, and --user may name any user.
install -d -m 1777 "$rootfs"/var/lib/{portcullis,registry}
