#!/bin/sh
# Plants mistakes in the table of faults and sees fault_kinds.py refuse each: test_fault_kinds.sh PYTHON SCRIPT TABLE
# shellcheck disable=SC2016 # the ticks are the table's
set -eu
python=$1 script=$2 table=$3
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT

fail()
{
    printf 'test_fault_kinds: %s\n' "$*" >&2
    exit 1
}

# The table as it is: accepted, each kind once, in its order.
"$python" "$script" "$table" "$work/kinds.h" || fail 'the table is refused'
sed -n '/fault_kinds\[\]/,/^}/p' "$work/kinds.h" | grep '^    "' >"$work/kinds"
[ "$(wc -l <"$work/kinds")" -ge 25 ] || fail 'few kinds'
[ "$(sort "$work/kinds" | uniq -d | wc -l)" -eq 0 ] || fail 'a kind comes twice'
[ "$(head -1 "$work/kinds")" = '    "accept_emfile",' ] || fail 'not in the order of the table'

# A kind that two rows name is one kind.
sed 's/`refuse` `unreachable`/`refuse` `unreachable` `segment`/' "$table" >"$work/twice.md"
cmp -s "$table" "$work/twice.md" && fail 'nothing was planted: twice'
"$python" "$script" "$work/twice.md" "$work/twice.h" || fail 'a kind in two rows is refused'
cmp -s "$work/kinds.h" "$work/twice.h" || fail 'a kind in two rows changes the list'

# refused SED-SCRIPT TEXT: with that mistake there is an error that says TEXT, and no header.
refused()
{
    sed "$1" "$table" >"$work/bad.md"
    cmp -s "$table" "$work/bad.md" && fail "nothing was planted: $1"
    "$python" "$script" "$work/bad.md" "$work/bad.h" 2>"$work/said" && fail "accepted: $1"
    [ ! -e "$work/bad.h" ] || fail "a header all the same: $1"
    grep -qF "$2" "$work/said" || fail "$1: it says $(cat "$work/said")"
}

refused 's/| `multishot_end` |/| |/' 'S names no kind'
refused 's/| U S \(.*`multishot_end`\)/| U \1/' 'a kind, but not by S'
refused 's/`multishot_end`/`Multishot-End`/' "malformed: 'Multishot-End'"
refused 's/`multishot_end`/``/' "malformed: ''"
refused 's/`multishot_end`/multishot_end/' 'something else than names'
refused 's/| U S \(.*`multishot_end`\)/| X S \1/' "brought about by 'X S'"
refused 's/`test_threads.c`/`test_nothing.c`/' 'no test: test_nothing.c'
refused 's/`test_threads.c`//' 'no test is named'
refused 's/| `multishot_end` |/| `multishot_end` | more |/' '6 cells, not 5'
refused 's/| `stalled` |/| `stalling` |/' "no fault asks for 'stalling'"
refused 's/| `stalled` |/| `drain` |/' "'drain' is explained twice"
refused 's/^| fault | by |/| faults | by |/' 'there are 0 tables'
