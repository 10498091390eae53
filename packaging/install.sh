#!/usr/bin/env bash
# Installs the program, its man pages and completions, its documents and the units of systemd:
# packaging/install.sh BINARY PREFIX [DESTDIR]
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
binary=$1 prefix=$2 to=${3:-}$2
doc=$to/share/doc/portcullis
units=$to/lib/systemd/system
bash=$to/share/bash-completion/completions
zsh=$to/share/zsh/site-functions
fish=$to/share/fish/vendor_completions.d

umask 022
install -D -m 755 "$binary" "$to/bin/portcullis"
install -d -m 755 "$doc/docs" "$units" "$to/share/man/man1" "$bash" "$zsh" "$fish"
"$binary" man "$to/share/man/man1" >/dev/null
"$binary" completions bash >"$bash/portcullis"
"$binary" completions zsh >"$zsh/_portcullis"
"$binary" completions fish >"$fish/portcullis.fish"
install -m 644 "$root"/{LICENSE,README.md,CHANGELOG.md,SECURITY.md,portcullis.example.yml} "$doc/"
install -m 644 "$root"/docs/*.md "$doc/docs/"
install -m 644 "$root"/contrib/portcullis.{service,socket} "$units/"
sed -i "s|/usr/local|$prefix|g" "$units/portcullis.service"
