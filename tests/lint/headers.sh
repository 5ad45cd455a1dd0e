#!/usr/bin/env bash
# Every header compiles alone, and opens with a comment and a guard of its own.
set -u
cd "$(dirname "$0")/../.." || exit 1
mapfile -t headers < <(find common services tests -name '*.h' | sort)
[ ${#headers[@]} -gt 0 ] || { echo "lint/headers: no header found" >&2; exit 1; }
gen=$(ls -d build/*/gen 2>/dev/null | head -n 1)
flags="-std=c17 -D_POSIX_C_SOURCE=200809L -Wall -Wextra -Wpedantic -Werror -Icommon -Iservices -Itests ${gen:+-I$gen}"
export flags
one() {
    # shellcheck disable=SC2086
    out=$(printf '#include "%s"\nextern int some_declaration;\n' "$1" | gcc $flags -I. -fsyntax-only -x c - 2>&1) || { echo "lint/headers: $1 does not compile alone:"; echo "$out"; exit 1; }
    [ "$(head -c 2 "$1")" = "/*" ] || { echo "lint/headers: $1 does not open with a comment that says what it is"; exit 1; }
    guard=$(grep -m 1 -oE '^#ifndef DAGLINE_[A-Z0-9_]+_H$' "$1" | cut -d' ' -f2)
    [ -n "$guard" ] && grep -q "^#define $guard\$" "$1" || { echo "lint/headers: $1 has no guard DAGLINE_..._H"; exit 1; }
    echo "$guard" >&3
}
export -f one
guards=$(mktemp)
printf '%s\0' "${headers[@]}" | xargs -0 -P 2 -I{} bash -c 'one "$1"' one {} 3>>"$guards" || { rm -f "$guards"; exit 1; }
twice=$(sort "$guards" | uniq -d)
rm -f "$guards"
[ -z "$twice" ] || { echo "lint/headers: one guard in two headers: $twice"; exit 1; }
echo "lint/headers: ${#headers[@]} headers, each compiles alone"
