#!/usr/bin/env bash
# compose.yaml, docker/ and the binaries agree, as far as that can be seen without a container engine.
# BIN is the folder of the built binaries.
set -u
cd "$(dirname "$0")/../.." || exit 1
bin=${BIN:-build/release/bin}
temp=$(mktemp -d) || exit 1
trap 'rm -rf "$temp"' EXIT
python3 tests/lint/compose.py "$bin" "$temp"
