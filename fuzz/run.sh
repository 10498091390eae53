#!/usr/bin/env bash
# Runs each fuzz target for a while and prints the results: fuzz/run.sh [TARGET…]
#
# FUZZ_SECONDS is the time of each target (60). fuzz/corpus collects inputs with new coverage, and
# fuzz/artifacts inputs that break a property. Exits with 1 after such a finding.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
seconds=${FUZZ_SECONDS:-60}
cd "$root"

# With this the stable compiler accepts cargo-fuzz's flags. The address sanitizer would need a nightly
# compiler, and finds errors of `unsafe`, which this project does not use.
export RUSTC_BOOTSTRAP=1
readonly FLAGS=(--sanitizer none)
# The release profile is that of the binary; one without whole-program optimisation builds in a fraction
# of the time.
export CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 CARGO_PROFILE_RELEASE_DEBUG=line-tables-only
# Its flags differ from those of `make test`, so it builds in a directory of its own.
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$root/target}/fuzz

if ! cargo fuzz --version >/dev/null 2>&1; then
    cargo install cargo-fuzz --locked
fi
cargo fuzz build "${FLAGS[@]}"

if [ $# -gt 0 ]; then
    targets=("$@")
else
    mapfile -t targets < <(cargo fuzz list)
fi

logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
found=0
table=$(mktemp -p "$logs")
for target in "${targets[@]}"; do
    corpus=fuzz/corpus/$target artifacts=fuzz/artifacts/$target log=$logs/$target
    mkdir -p "$corpus" "$artifacts"
    options=(-max_total_time="$seconds" -print_final_stats=1 -timeout=10)
    if [ -e "fuzz/dictionaries/$target.dict" ]; then
        options+=(-dict="fuzz/dictionaries/$target.dict")
    fi
    folders=("$corpus" "fuzz/seeds/$target")
    if [ -d "fuzz/regressions/$target" ]; then
        folders+=("fuzz/regressions/$target")
    fi
    echo "$target: $seconds s"
    finding=none
    if ! cargo fuzz run "${FLAGS[@]}" "$target" "${folders[@]}" -- "${options[@]}" >"$log" 2>&1; then
        found=1
        grep -aE 'panicked|^thread|^ERROR|^SUMMARY' -A 2 "$log" | head -n 12 || true # maybe none of these
        finding=$(grep -aoE 'Test unit written to .*' "$log" | awk '{print $NF}' || true)
        finding=${finding:-see above}
        if [ "$finding" = 'see above' ]; then
            tail -n 20 "$log"
        fi
    fi
    executions=$(awk '/stat::number_of_executed_units/ {print $2}' "$log")
    printf '%s|%s|%s\n' "$target" "${executions:-0}" "${finding#"$root/"}" >>"$table"
done

{
    echo 'target|executions|finding'
    cat "$table"
} | column -t -s '|'
exit "$found"
