#!/usr/bin/env bash
# Runs the OCI distribution conformance suite against a built portcullis, over TLS and with a
# password: tests/conformance.sh [BINARY]
#
# Go installs the suite at the commit below. Without Go or network the script prints a skip and exits
# with 0, since no package provides the suite; OCI_CONFORMANCE may name a built one.
# The reports stay in results/ (OCI_RESULTS_DIR).
set -euo pipefail

readonly SUITE=github.com/opencontainers/distribution-spec/conformance
readonly COMMIT=216c04cd22cedaab8cff577692d90e6ff7a1af0b

root=$(cd "$(dirname "$0")/.." && pwd)
binary=$(realpath "${1:-$root/target/debug/portcullis}")
export OCI_RESULTS_DIR=${OCI_RESULTS_DIR:-$root/results}

work=$(mktemp -d)
server=
cleanup() {
    if [ -n "$server" ]; then
        kill "$server" 2>/dev/null || true # it may have ended already
        wait "$server" || true             # the signal ends it
    fi
    rm -rf "$work"
}
trap cleanup EXIT

fail() {
    echo "conformance: $*" >&2
    exit 1
}

skip() {
    echo "skipped: conformance: $*"
    if [ -n "${PORTCULLIS_SKIPPED:-}" ]; then
        echo "skipped: conformance: $*" >>"$PORTCULLIS_SKIPPED"
    fi
    exit 0
}

# --- the suite ---------------------------------------------------------------------------------

if [ -n "${OCI_CONFORMANCE:-}" ]; then
    suite=$OCI_CONFORMANCE
    [ -x "$suite" ] || fail "OCI_CONFORMANCE=$suite is not a program"
elif ! command -v go >/dev/null; then
    skip "Go is not installed"
else
    # Built before the run, so that a failed installation is not taken for a failed suite.
    if ! GOBIN=$work go install "$SUITE@$COMMIT" >"$work/go.log" 2>&1; then
        echo "\$ go install $SUITE@$COMMIT"
        cat "$work/go.log"
        skip "Go cannot get $SUITE@$COMMIT: $(tail -n 1 "$work/go.log" | tr -d '\t')"
    fi
    suite=$work/conformance
fi

# --- the server --------------------------------------------------------------------------------

# An address in 127.0.0.0/8 of this process alone, so that the script does not have to guess a port.
address=127.$((128 + ($$ >> 16) % 64)).$((($$ >> 8) % 256)).$(($$ % 256)):5000
if [ "$(uname)" != Linux ]; then
    address=127.0.0.1:$((20000 + $$ % 10000)) # other systems have only this loopback address
fi
user=conformance
password=$(head -c 18 /dev/urandom | base64)

cd "$work"
"$binary" certs --new --host "${address%:*}" --out certs
"$binary" htpasswd -Bbn "$user" "$password" >htpasswd
cat >config.yml <<END
version: 0.1
storage:
  filesystem:
    rootdirectory: $work/data
  delete:
    enabled: true
http:
  addr: $address
  tls:
    certificate: $work/certs/server.crt
    key: $work/certs/server.key
auth:
  htpasswd:
    realm: Portcullis
    path: $work/htpasswd
END
"$binary" serve config.yml >server.log 2>&1 &
server=$!
for attempt in $(seq 300); do
    if curl --silent --cacert certs/ca.crt --output /dev/null "https://$address/v2/"; then
        break
    fi
    if ! kill -0 "$server" 2>/dev/null || [ "$attempt" -eq 300 ]; then
        cat server.log >&2
        fail "the server does not answer on $address"
    fi
    sleep 0.1
done

# --- the run -----------------------------------------------------------------------------------

# OCI_VERSION=dev asks for digest headers, cancelled uploads and tag parameters too. Sparse
# manifests stay off: portcullis refuses a manifest whose blobs it does not have.
mkdir -p "$OCI_RESULTS_DIR"
rm -f "$OCI_RESULTS_DIR/junit.xml"
verdict=0
SSL_CERT_FILE=$work/certs/ca.crt \
    OCI_VERSION=dev OCI_REGISTRY=$address OCI_TLS=enabled \
    OCI_USERNAME=$user OCI_PASSWORD=$password \
    "$suite" >suite.log 2>&1 || verdict=$?
cp suite.log server.log "$OCI_RESULTS_DIR/"

# The suite exits with 0 even when it could not begin, so the script reads the report.
report=$OCI_RESULTS_DIR/junit.xml
if [ ! -s "$report" ]; then
    cat suite.log >&2
    fail "the suite left no report"
fi

# Each case is one line of the report, its reason the next.
cases() {
    awk -v wanted="$1" -F '"' '
        /<testcase / { name = ""; if (index($0, "status=\"" wanted "\"")) name = $2 }
        /<testcase / && name != "" { print "  " name }
        /<system-out>/ && name != "" {
            gsub(/^ *<system-out>|<\/system-out>$/, "")
            gsub(/&#xA;/, "\n      "); gsub(/&#34;/, "\""); gsub(/&#39;/, "\047")
            gsub(/&lt;/, "<"); gsub(/&gt;/, ">"); gsub(/&amp;/, "\\&")
            print "      " $0
        }
    ' "$report"
}
# A total of the suite, which omits totals of zero.
total() {
    grep -m 1 '<testsuite ' "$report" | sed -n "s/.* $1=\"\([0-9]*\)\".*/\1/p"
}
tests=$(total tests) failed=$(total failures) errors=$(total errors)
skipped=$(total skipped) disabled=$(total disabled)
: "${tests:=0}" "${failed:=0}" "${errors:=0}" "${skipped:=0}" "${disabled:=0}"
passed=$((tests - failed - errors - skipped - disabled))

if [ $((failed + errors)) -gt 0 ]; then
    echo "failed:"
    cases failure
    cases error
fi
if [ $((skipped + disabled)) -gt 0 ]; then
    echo "skipped or disabled by the suite:"
    cases skipped
fi
echo "conformance: $tests cases: $passed passed, $failed failed, $errors errors," \
    "$skipped skipped, $disabled disabled (details in $OCI_RESULTS_DIR)"

[ "$passed" -gt 0 ] || fail "no case has passed"
[ $((failed + errors)) -eq 0 ] || fail "the registry does not conform"
[ "$verdict" -eq 0 ] || fail "the suite ended with $verdict although no case failed"
