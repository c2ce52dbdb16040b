#!/bin/sh
# Runs the examples for real: test_examples.sh ECHO PROXY CLIENT RESOLVE, on the backend of PROACTOR_BACKEND.
set -eu
echo=$1 proxy=$2 client=$3 resolve=$4
command -v nc >/dev/null || { echo 'skipped: no nc'; exit 77; }

listening()
{
    grep -q ":$(printf %04X "$1") [0-9A-F]*:0000 0A" /proc/net/tcp /proc/net/tcp6
}

# Below those the kernel gives out; six to each process, as those for the other backends run beside it.
port=$((10000 + $$ % 3333 * 6))
while listening $port || listening $((port + 1)) || listening $((port + 2)) || listening $((port + 4)) ||
    listening $((port + 5)); do
    port=$((port + 6))
done
work=$(mktemp -d)
pids=

finish()
{
    for pid in $pids; do
        kill "$pid" 2>/dev/null || true
    done
    rm -r "$work"
}
trap finish EXIT

fail()
{
    printf 'test_examples: %s\n' "$*" >&2
    exit 1
}

# start PORT COMMAND...: in the background, until it listens there.
start()
{
    at=$1
    shift
    "$@" &
    pids="$pids $!"
    until listening "$at"; do
        kill -0 $! || { echo "skipped: $* does not start on this backend"; exit 77; }
        sleep 0.05
    done
}

start "$port" "$echo" "$port"
start $((port + 1)) "$proxy" $((port + 1)) "$port"
start $((port + 2)) "$proxy" $((port + 2)) $((port + 1))

# A frame straight to the server, and through one and two proxies.
for hop in 0 1 2; do
    "$client" $((port + hop)) 'hello, world' >"$work/answer" || fail "hop $hop: no answer"
    [ "$(cat "$work/answer")" = 'hello, world' ] || fail "hop $hop answers $(cat "$work/answer")"
done

# Many bytes both ways at once, a half-close after them, and all of them come back before the end.
head -c 8000000 /dev/urandom >"$work/sent"
for hop in 0 1 2; do
    timeout 30 nc -N 127.0.0.1 $((port + hop)) <"$work/sent" >"$work/got" || fail "hop $hop: nc fails"
    cmp "$work/sent" "$work/got" || fail "hop $hop: other bytes"
done

# Several at once.
clients=
for n in 1 2 3 4 5 6 7 8; do
    "$client" $((port + 2)) "number $n" >"$work/answer.$n" &
    clients="$clients $!"
done
for pid in $clients; do
    wait "$pid" || fail "a client fails"
done
for n in 1 2 3 4 5 6 7 8; do
    [ "$(cat "$work/answer.$n")" = "number $n" ] || fail "client $n got $(cat "$work/answer.$n")"
done

# Nobody listens; and the proxy's target does not: the client hears of it.
! "$client" $((port + 3)) x 2>"$work/why" || fail 'a connection to nobody succeeds'
grep -q connect "$work/why" || fail "a connection to nobody says $(cat "$work/why")"
start $((port + 4)) "$proxy" $((port + 4)) $((port + 3))
! "$client" $((port + 4)) x 2>"$work/why" || fail 'a frame through a proxy to nobody is answered'

# A server that never answers: the deadline ends it.
start $((port + 5)) nc -l 127.0.0.1 $((port + 5)) >"$work/frame" </dev/null
! "$client" $((port + 5)) 'no answer' 2>"$work/why" || fail 'a frame to nobody is answered'
grep -q receive "$work/why" || fail "a server that is silent: $(cat "$work/why")"
grep -q '00009no answer' "$work/frame" || fail "the server got $(cat "$work/frame")"

# All but the last, which has had its one connection, are still there.
for pid in ${pids% *}; do
    kill -0 "$pid" || fail "process $pid is gone"
done

# Names that need no network, and one that is none.
"$resolve" || fail 'no names to look up, and it fails'
"$resolve" 127.0.0.1 ::1 127.0.0.2 >"$work/found" || fail 'numbers are not found'
[ "$(LC_ALL=C sort "$work/found")" = "127.0.0.1 127.0.0.1
127.0.0.2 127.0.0.2
::1 ::1" ] || fail "found $(cat "$work/found")"
! "$resolve" 127.0.0.1 not..a.name >"$work/found" 2>"$work/why" || fail 'what is no name is found'
[ "$(cat "$work/found")" = '127.0.0.1 127.0.0.1' ] || fail "beside what is no name $(cat "$work/found")"
grep -q 'not..a.name: ' "$work/why" || fail "what is no name: $(cat "$work/why")"
