#!/usr/bin/env bash
# The Makefile in a folder with a blank in its name, of a checkout that its owner alone may read, without git:
# it compiles, does nothing the second time, builds again where a flag changed, and installs for every user; packages only where it may.
# BIN is the folder of the built binaries.
set -u
cd "$(dirname "$0")/../.." || exit 1
bin=$(realpath "${BIN:-build/release/bin}")
temp=$(mktemp -d) || exit 1
trap 'rm -rf "$temp"' EXIT
bad=0
complain() { echo "lint/build: $1"; bad=1; }

tree="$temp/a tree" there="$temp/an image" object=build/release/obj/common/base/err.o
umask 077
mkdir -p "$tree/common" "$tree/models" || exit 1
cp -r Makefile docker "$tree" && cp -r common/base "$tree/common" && cp LICENSE "$tree/models" || exit 1
unset MAKEFLAGS MAKELEVEL MODE PREFIX DESTDIR CFLAGS V
make_there() { make -C "$tree" --no-print-directory "$@" 2>&1; }

out=$(make_there "$object") || complain "does not compile: $out"
out=$(make_there "$object") && [ -z "$out" ] || complain "compiles again what is built: $out"
out=$(make_there CFLAGS=-DCHANGED "$object") && [ "${out#*cc }" != "$out" ] || complain "leaves what a changed flag concerns: $out"
out=$(make_there -o all BINS="$bin/dagline" DESTDIR="$there" install) || complain "does not install: $out"
[ -x "$there/usr/local/bin/dagline" ] || complain "installs no binary"
[ -f "$there/usr/local/share/dagline/models/LICENSE" ] || complain "installs no model"
out=$(find "$there/usr" ! -perm -004) && [ -z "$out" ] || complain "installs what others cannot read: $out"

# what is missing is named, and not installed, however NO_INSTALL is given
mkdir "$temp/bin" && printf '#!/bin/sh\nexit 1\n' >"$temp/bin/dpkg-query" || exit 1
printf '#!/bin/sh\ntouch "%s/installed"\nexit 1\n' "$temp" | tee "$temp/bin/apt-get" >"$temp/bin/sudo"
chmod +x "$temp"/bin/*
out=$(PATH="$temp/bin:$PATH" make_there NO_INSTALL=1 all)
[ "${out#*NO_INSTALL=1: install them}" != "$out" ] || complain "does not say what is missing: $out"
[ ! -e "$temp/installed" ] || complain "installs packages in spite of NO_INSTALL=1"
[ "$bad" = 0 ] && echo "lint/build: compiles and installs from a folder with a blank in its name"
exit "$bad"
