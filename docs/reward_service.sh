#!/bin/sh
# A reward service in shell, one process a call: the picture's PNG file in bytes, so that what is hard to compress scores more.
#
#   socat TCP-LISTEN:8096,bind=127.0.0.1,reuseaddr,fork EXEC:docs/reward_service.sh &
#   dagline run --no-judge --set reward.backend=raw --set reward.url=http://127.0.0.1:8096 --set reward.path=/ \
#     --set reward.scale=0.001
length=0 prompt=
while IFS= read -r line; do
    line=$(printf %s "$line" | tr -d '\r')
    case $line in
    '') break ;;
    [Cc]ontent-[Ll]ength:*) length=${line##*: } ;;
    [Xx]-[Pp]rompt:*) prompt=${line#*: } ;; # percent-encoded
    esac
done

# The part to replace: a number from $prompt and the picture, a PNG file on standard input.
score=$(head -c "$length" | wc -c | tr -d ' ')

printf 'HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s' "${#score}" "$score"
