#!/usr/bin/env bash
# Installs the missing programs that the tests drive, with apt-get and as root; otherwise lists them.
# Never fails: the suites report which tests they skip. With INSTALL=no it installs nothing. With the
# argument `announce` it only says what it will install.
set -euo pipefail

# program  package, on Debian and Ubuntu
readonly CLIENTS='
dockerd         docker.io
docker          docker.io
docker          docker-cli
docker-compose  docker-compose
skopeo          skopeo
podman          podman
containerd      containerd
ctr             containerd
htpasswd        apache2-utils
ip              iproute2
curl            curl
openssl         openssl
sslscan         sslscan
nmap            nmap
docker-registry docker-registry
haproxy         haproxy
nginx           nginx-light
pebble          pebble
'
# With the argument `bench`: further programs of the comparison.
readonly COMPARED='
wrk     wrk
h2load  nghttp2-client
'
programs_and_packages=$CLIENTS
[ "${1:-}" != bench ] || programs_and_packages=$CLIENTS$COMPARED

missing() {
    local program package
    while read -r program package; do
        if [ -n "$program" ] && ! command -v "$program" >/dev/null; then
            echo "$program $package"
        fi
    done <<<"$programs_and_packages"
}

programs() {
    missing | cut -d ' ' -f 1 | sort -u | tr '\n' ' '
}

# Python packages, in a virtual environment in the target directory.
readonly PACKAGES='requests==2.34.2 oras==0.2.43'
readonly PYTHON=${CARGO_TARGET_DIR:-target}/python
install_packages() {
    [ ! -x "$PYTHON/bin/python" ] || return 0
    echo "installing for Python: $PACKAGES"
    # shellcheck disable=SC2086
    if ! { python3 -m venv "$PYTHON" && "$PYTHON/bin/pip" install --quiet $PACKAGES; } >/dev/null; then
        echo "they cannot be installed" >&2
        rm -rf "$PYTHON"
    fi
}

can_install() {
    [ "${INSTALL:-}" != no ] && command -v apt-get >/dev/null && [ "$(id -u)" -eq 0 ]
}

if [ "${1:-}" = announce ]; then
    if [ -n "$(missing)" ] && can_install; then
        echo "before the suites of real clients this installs, as root with apt-get: $(programs)"
        echo "INSTALL=no installs nothing and skips those suites"
    fi
    exit 0
fi

if ! command -v go >/dev/null; then
    echo "go is not installed: the conformance suite needs it (https://go.dev/dl/)"
fi
[ "${INSTALL:-}" = no ] || install_packages
[ -n "$(missing)" ] || exit 0

if ! can_install; then
    echo "missing clients: $(programs)"
    echo "the suites that need them will be skipped; as root on Debian or Ubuntu this script installs" \
        "them, unless INSTALL=no"
    exit 0
fi

export DEBIAN_FRONTEND=noninteractive
echo "installing: $(programs)"
apt-get update -qq || echo "apt-get update failed; trying with the lists there are" >&2
# One by one, so that an unavailable package does not block the others. The list is read anew each
# time: docker's two packages are one in older releases.
for package in $(missing | cut -d ' ' -f 2 | uniq); do
    if grep -q " $package\$" <<<"$(missing)"; then
        apt-get install -y -qq --no-install-recommends "$package" >/dev/null ||
            echo "$package cannot be installed" >&2
    fi
    # Debian starts these as services, on the port of the servers of the tests and on 80.
    case $package in docker-registry | nginx-light)
        if [ -d /run/systemd/system ]; then
            systemctl --quiet disable --now "${package%-light}" || true
        fi ;;
    esac
done
if [ -n "$(missing)" ]; then
    echo "still missing: $(programs)"
fi
