#!/bin/sh
# What the server asks of the kernel once it is warm: while requests are answered there is no system call that
# allocates memory, and none that registers anything with epoll or io_uring.
#
# usage: test_syscalls.sh REVERSED REVERSE        (the backend in PROACTOR_BACKEND)
set -eu
reversed=$1 reverse=$2
command -v strace >/dev/null || { echo "skipped: no strace"; exit 77; }
scratch=$(mktemp -d)
server='' load=''
# shellcheck disable=SC2086
trap 'kill $load $server 2>/dev/null || :; rm -rf "$scratch"' EXIT

"$reversed" --listen 127.0.0.1:0 --backend "$PROACTOR_BACKEND" --log-level error 2>"$scratch/log" &
server=$!
until grep -q listening "$scratch/log"; do
    kill -0 $server || { cat "$scratch/log"; exit 77; }
    sleep 0.1
done
address=$(sed -n 's/.*listening on \([^ ]*\) .*/\1/p' "$scratch/log")

# A load that does not end by itself: lines of one length, a bounded window of them under way, most buffers full and
# every one of them ending inside a frame. (With random lengths the greatest need of memory is met ever more rarely, but
# there is no moment from which on it has surely been met.)
awk 'BEGIN { line = "x"; while (length(line) < 3000) line = line line
             for (;;) print substr(line, 1, 3000) }' |
    "$reverse" "$address" >/dev/null 2>"$scratch/errors" &
load=$!
sleep 2

# Two seconds at a time: the greatest need of memory may be met late on a busy machine, but then it has been met. What
# allocates with every request, or with every thousandth, does so in each of them.
for window in 1 2 3 4; do
    strace -f -c -o "$scratch/calls" -p $server 2>/dev/null &
    tracer=$!
    sleep 2
    kill -INT $tracer
    wait $tracer || :
    kill -0 $load || { echo "FAILED: the load ended"; cat "$scratch/errors"; exit 1; }
    echo "window $window"
    cat "$scratch/calls"
    awk '$NF == "io_uring_enter" || $NF == "epoll_pwait2" || $NF == "epoll_wait" { work = $4 }
         $NF ~ /^(mmap|munmap|mremap|brk|madvise|epoll_ctl|io_uring_register|io_uring_setup)$/ { bad = bad " " $NF }
         END { if (work < 100) { print "it hardly worked: " work; exit 1 }
               if (bad != "") { print "not steady, it calls" bad; exit 1 } }' "$scratch/calls" && exit 0
done
echo "FAILED: there is no steady state"
exit 1
