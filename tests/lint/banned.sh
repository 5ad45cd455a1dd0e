#!/usr/bin/env bash
# Functions that have no bound, no error or hidden state; printf only where talking to people is the job.
set -u
cd "$(dirname "$0")/../.." || exit 1
mapfile -t all < <(find common services tests -name '*.[ch]' | sort)
[ ${#all[@]} -gt 0 ] || { echo "lint/banned: no sources found" >&2; exit 1; }
bad=0
# comments and strings are taken out first, so that a name in prose is no finding
code() { gcc -fpreprocessed -dD -E -P "$1" 2>/dev/null | sed 's/"\(\\.\|[^"\\]\)*"/""/g'; }
for file in "${all[@]}"; do
    [ -f "$file" ] || continue
    names='strcpy|strcat|sprintf|vsprintf|strtok|atoi|atol|atof|gets|rand|srand|alloca|tmpnam|mktemp'
    case $file in
    services/dagline/* | services/scorer/trial.c | tests/*) ;;
    *) names="$names|printf|puts|putchar" ;;
    esac
    # a cheap look first; the preprocessor only where there is something to look at
    grep -qE "\\b($names)[[:space:]]*\\(" "$file" || continue
    hits=$(code "$file" | grep -oE "(^|[^A-Za-z0-9_>.])($names)[[:space:]]*\\(" | sort | uniq -c)
    if [ -n "$hits" ]; then
        echo "lint/banned: $file uses:"
        echo "$hits"
        bad=1
    fi
done
[ "$bad" = 0 ] && echo "lint/banned: ${#all[@]} files, none uses a banned function"
exit "$bad"
