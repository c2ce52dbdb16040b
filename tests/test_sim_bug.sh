#!/bin/sh
# The example of docs/simulation.md: its bug is found from a seed, the line that replays it does, and with the fix there
# is none: test_sim_bug.sh SIM_BUG
set -eu
program=$1
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT
# shellcheck disable=SC3045 # where there is none, there may be a core file
ulimit -c 0 2>/dev/null || :

fail()
{
    printf 'test_sim_bug: %s\n' "$*" >&2
    cat "$work"/*.out "$work"/*.err >&2
    exit 1
}

# fails NAME COMMAND...: it ends by abort and says why.
fails()
{
    name=$1 status=0
    shift
    ("$@") >"$work/$name.out" 2>"$work/$name.err" || status=$?
    [ "$status" -eq 134 ] || fail "$* ends with status $status, not by abort"
    grep -q '^proactor: the simulation failed: the answer has ' "$work/$name.err" || fail "$* does not say what failed"
    grep -q '^proactor: after [0-9]* events, hash [0-9a-f]*$' "$work/$name.err" || fail "$* does not say after what"
}

fails found "$program"
grep -q '^seed 0: every answer was right so far$' "$work/found.out" || fail 'the calm world finds a bug'
replay=$(sed -n 's/^proactor: replay with: //p' "$work/found.err")
seed=${replay##* }
[ "$replay" = "$program $seed" ] || fail "the replay line is '$replay'"
[ "$seed" -ge 1 ] || fail "the seed is '$seed'"

# The same history, to the last event.
# shellcheck disable=SC2086 # a command line
fails replayed $replay
cmp "$work/found.err" "$work/replayed.err" || fail 'another history'

"$program" fixed >"$work/fixed.out" 2>"$work/fixed.err" || fail 'a bug is found in the fixed server'
grep -q '^seed 1000: every answer was right so far$' "$work/fixed.out" || fail 'the fixed server did not get to the end'
[ ! -s "$work/fixed.err" ] || fail 'the fixed server complains'
"$program" fixed "$seed" || fail "seed $seed finds a bug in the fixed server"
