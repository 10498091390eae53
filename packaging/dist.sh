#!/usr/bin/env bash
# Packages a static binary: packaging/dist.sh BINARY FOLDER
#
# FOLDER then has an archive, a Debian package, an image (its tar, and image/ for `docker build`), an
# SBOM and SHA256SUMS. The same binary, sources and authorities (ca-certificates) make the same bytes:
# every time is that of the commit, or SOURCE_DATE_EPOCH. DIST_COMPRESSION is gzip's level (9).
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
binary=$(realpath "$1")
mkdir -p "$2"
out=$(realpath "$2")
packaging=$root/packaging

fail() {
    echo "dist: $*" >&2
    exit 1
}

version=$(sed -n 's/^version = "\(.*\)"$/\1/p' "$root/Cargo.toml" | head -n 1)
# Without git, as in `docker build` without .git, the time is that of the changelog.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -C "$root" log -1 --format=%ct 2>/dev/null ||
    stat -c %Y "$root/CHANGELOG.md")}
export SOURCE_DATE_EPOCH
export DIST_COMPRESSION=${DIST_COMPRESSION:-9}
export TZ=UTC LC_ALL=C

# In an empty image a loader and shared libraries are missing.
if readelf --program-headers "$binary" | grep -q INTERP; then
    fail "$binary is linked dynamically: build it with -C target-feature=+crt-static (make dist)"
fi
# Roots of TLS for webhooks and health checks.
readonly AUTHORITIES=/etc/ssl/certs/ca-certificates.crt
[ -s "$AUTHORITIES" ] || fail "$AUTHORITIES is missing: install ca-certificates"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
rm -rf "$out/image" "$out"/portcullis* "$out/SHA256SUMS"
umask 022

# Without debug information, of which a development build has 100 MB; symbols stay, for backtraces.
install -m 755 "$binary" "$work/portcullis"
strip --strip-debug "$work/portcullis"

# --- the archive -------------------------------------------------------------------------------

name=portcullis-$version-x86_64-linux
mkdir "$work/$name"
install -m 755 "$work/portcullis" "$work/$name/"
install -m 644 "$root"/{LICENSE,README.md,CHANGELOG.md,SECURITY.md,portcullis.example.yml} "$work/$name/"
cp -r "$root/docs" "$root/contrib" "$work/$name/"
tar --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner --mode=go-w \
    -C "$work" -c "$name" | gzip "-${DIST_COMPRESSION}n" >"$out/$name.tar.gz"

# --- the Debian package ------------------------------------------------------------------------

deb=$work/deb
"$packaging/install.sh" "$work/portcullis" /usr "$deb"
# The unit of the package has a user that stays, so that `sudo -u portcullis` reaches the images.
sed -i -e 's|^DynamicUser=yes$|User=portcullis\nGroup=portcullis|' \
    -e 's|^# A user that exists while the service runs\. Its folder|# Its folder|' \
    -e "s|^ExecStart=.*|& /etc/portcullis/config.yml|" "$deb/usr/lib/systemd/system/portcullis.service"
grep -q '^User=portcullis$' "$deb/usr/lib/systemd/system/portcullis.service" ||
    fail "contrib/portcullis.service has no line DynamicUser=yes"
install -D -m 644 "$packaging/deb/config.yml" "$deb/etc/portcullis/config.yml"
install -d -m 755 "$deb/DEBIAN"
size=$(du -k -s --apparent-size "$deb" | cut -f 1)
sed -e "s|@VERSION@|$version|" -e "s|@SIZE@|$size|" "$packaging/deb/control" >"$deb/DEBIAN/control"
echo /etc/portcullis/config.yml >"$deb/DEBIAN/conffiles"
for script in postinst prerm postrm; do
    install -m 755 "$packaging/deb/$script" "$deb/DEBIAN/"
done
(cd "$deb" && find etc usr -type f -print0 | sort -z | xargs -0 md5sum) >"$deb/DEBIAN/md5sums"
dpkg-deb --root-owner-group -Zgzip "-z$DIST_COMPRESSION" --build "$deb" "$out/portcullis_${version}_amd64.deb" >/dev/null

# --- the image ---------------------------------------------------------------------------------

"$packaging/rootfs.sh" "$work/portcullis" "$out/image/rootfs"
install -m 644 "$packaging/image/Dockerfile" "$out/image/"
find "$out/image" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
"$packaging/image.py" "$out/image/rootfs" "$out/portcullis-$version-image.tar" "$version" \
    "$(git -C "$root" rev-parse HEAD 2>/dev/null || true)"

# --- what is in it, and checksums --------------------------------------------------------------

"$packaging/sbom.py" "$AUTHORITIES" >"$out/portcullis-$version.cdx.json"
(cd "$out" && sha256sum portcullis* >SHA256SUMS)
ls -l "$out"
