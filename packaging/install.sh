#!/usr/bin/env bash
# Installs the program, its documents and the units of systemd:
# packaging/install.sh BINARY PREFIX [DESTDIR]
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
binary=$1 prefix=$2 to=${3:-}$2
doc=$to/share/doc/portcullis
units=$to/lib/systemd/system

umask 022
install -D -m 755 "$binary" "$to/bin/portcullis"
install -d -m 755 "$doc/docs" "$units"
install -m 644 "$root"/{LICENSE,README.md,CHANGELOG.md,SECURITY.md,portcullis.example.yml} "$doc/"
install -m 644 "$root"/docs/*.md "$doc/docs/"
install -m 644 "$root"/contrib/portcullis.{service,socket} "$units/"
sed -i "s|/usr/local|$prefix|g" "$units/portcullis.service"
