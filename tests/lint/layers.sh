#!/usr/bin/env bash
# Who may include whom, and through which file each library is reached.  Folders in common/ are layers:
# an include path names its folder, so a wrong dependency is visible in the line itself.
set -u
cd "$(dirname "$0")/../.." || exit 1

# folder: the folders of common/ that it may include, besides itself
may_include='
base:
io:        base
nn:        base
rollout:   base
metrics:   base
objective: base
shapes:    base io nn
diffusion: base io nn
rewards:   base io nn shapes diffusion
wire:      base rollout metrics
replay:    base rollout metrics
run:       base io nn rollout metrics objective shapes diffusion rewards wire
'
# library header: the files that may include it (patterns); tests are free
doors='
zmq.h              common/wire/*.c
hiredis/*          common/replay/replay*.c
curl/*             services/scorer/exchange.c
jansson.h          common/base/json.c
yaml.h             common/base/config_yaml.c
png.h              common/io/png.c
jpeglib.h          common/io/jpeg.c
cairo*             common/io/chart.c
microhttpd.h       common/io/httpd.c
nettle/*          common/base/hash.c
sodium.h           common/base/hash.c common/wire/keys.c
utf8proc.h         common/diffusion/tokenizer.c
cblas.h            common/nn/gemm.c
dnnl*              common/nn/conv2d_dnnl.c
*.pb-c.h           common/wire/codec*.c
check.h
'
bad=0
declare -A below
while IFS=: read -r folder allowed; do
    [ -n "$folder" ] && below[$folder]=" $allowed "
done <<<"$may_include"
complain() { echo "lint/layers: $1"; bad=1; }

check_own() { # FILE FOLDER-OF-THE-INCLUDE
    local file=$1 target=$2 owner=${1#*/}
    owner=${owner%%/*}
    case $file in
    common/*)
        [ "$owner" = "$target" ] && return
        [ -n "${below[$owner]+known}" ] || { complain "$file: folder $owner is not in the table of layers"; return; }
        [[ ${below[$owner]} == *" $target "* ]] || complain "$file includes $target/, which is not below $owner"
        ;;
    services/*)
        [ "$owner" = "$target" ] && return
        [ -d "common/$target" ] || complain "$file includes $target/, which is no folder of common"
        ;;
    esac
}

check_door() { # FILE HEADER
    local file=$1 header=$2 pattern files
    set -f
    while read -r pattern files; do
        [ -n "$pattern" ] || continue
        # shellcheck disable=SC2254
        case $header in
        $pattern)
            for f in $files; do
                case $file in $f) set +f; return ;; esac
            done
            complain "$file includes <$header>; its door is ${files:-in tests only}"
            ;;
        esac
    done <<<"$doors"
    set +f
}

count=0
while IFS=: read -r file line; do
    count=$((count + 1))
    [[ $line =~ include[[:space:]]*[\<\"]([^\>\"]+) ]] || continue
    header=${BASH_REMATCH[1]}
    case $line in
    *\"*.pb-c.h\"*) check_door "$file" "$header" ;;
    *\"*/*\"*) check_own "$file" "${header%%/*}" ;;
    *\"*\"*) complain "$file: \"$header\" has no folder; include from the root of common" ;;
    *) check_door "$file" "$header" ;;
    esac
done < <(find common services -name '*.[ch]' -o -name '*.inc' | sort | xargs grep -HE '^[[:space:]]*#[[:space:]]*include')
[ "$count" -gt 0 ] || complain "no include found"
[ "$bad" = 0 ] && echo "lint/layers: $count includes, all downwards and through their doors"
exit "$bad"
