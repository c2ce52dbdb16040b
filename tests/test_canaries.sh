#!/bin/sh
# The canaries: bugs planted into a copy of the library, one at a time, each of which a test must notice; else the test
# proves nothing when it says that all is well.
#
# A canary is a patch, canaries/NAME.patch, against src/ or proto/. Its first line says what has to notice it, by a
# command line whose program is one that this tree builds (a name alone is one of tests/); the next ones what is wrong:
#
#       Caught by: walk --only close_both
#       A close does not cancel the sends, and waits for a peer that does not read.
#
# Variables of the environment may go before the program: PROACTOR_BACKEND=io_uring test_contract_ops. Where the backend
# is not to be had, its canaries are passed over.
#
# Those that fuzz targets have to find (fuzz/…) are left to `./dev fuzz canaries`.
#
# The program must fail. Of `walk` more is demanded: it names the scenario and the history, that history alone fails as
# well, and every scenario that it has is the cage of a canary at least.
#
# usage: test_canaries.sh SOURCE_ROOT SANITIZER [NAME...]
set -eu
source=$1 sanitizer=$2
shift 2
if [ "$sanitizer" != none ]; then
    echo 'skipped: canaries are built without sanitizers and coverage, and the plain build has tested them'
    exit 77
fi
command -v patch >/dev/null || { echo 'skipped: no patch'; exit 77; }
# shellcheck disable=SC3045 # where there is none, there may be a core file
ulimit -c 0 2>/dev/null || :

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
tree=$scratch/tree build=$scratch/build
failures=0 count=0

# complain CANARY TEXT...: the last lines of what was said go with it.
complain()
{
    printf 'canary %s: FAILED: ' "$1"
    shift
    printf '%s\n' "$*"
    tail -n 15 "$scratch/log"
    failures=$((failures + 1))
}

# program NAME: where it is built, from the build folder.
program()
{
    case $1 in
    */*) echo "$1" ;;
    *) echo "tests/$1" ;;
    esac
}

# fails COMMAND...: it says so by its status, and not by never coming to an end; the harness notices that a test does not.
# Two may mean that it was called wrongly, but cmocka ends with the number of tests that failed, and says it.
fails()
{
    status=0
    (
        cd "$build"
        timeout 120 env HARNESS_GUARD=10 "$@" || exit
    ) >"$scratch/log" 2>&1 || status=$?
    case $status in
    0 | 77 | 124) return 1 ;;
    2) grep -Eq '^harness: stuck at |^ *2 FAILED TEST\(S\)' "$scratch/log" ;;
    esac
}

# caught_by_walk CANARY PROGRAM --only SCENARIO: by a history, which can be played again.
caught_by_walk()
{
    canary=$1 walk=$2 scenario=$4
    history=$(sed -n "s/^walk: FAILED: $scenario, history //p" "$scratch/log")
    number=$(sed -n 's/^walk: it was history number //p' "$scratch/log")
    if [ -z "$number" ] || ! grep -q "^walk: FAILED: $scenario, history" "$scratch/log"; then
        complain "$canary" "$scenario fails, but names no history"
    elif [ -n "$history" ] && ! fails "$walk" --only "$scenario" --history "$history"; then
        complain "$canary" "$scenario fails, but its history $history does not"
    else
        echo "canary $canary: caught by $scenario after $number histories, history $history"
    fi
}

# watch CANARY [NAME=VALUE...] PROGRAM ARGUMENT...: the bug is in the tree.
watch()
{
    canary=$1 settings=
    shift
    while expr "$1" : '[A-Z_]*=' >/dev/null; do
        settings="$settings $1"
        shift
    done
    name=$1 path=$(program "$1")
    shift
    if ! ninja -C "$build" "$path" >"$scratch/log" 2>&1; then
        complain "$canary" "it cannot be built"
        return
    fi
    # shellcheck disable=SC2086 # words
    if fails $settings "./$path" "$@"; then
        case $name in
        walk) caught_by_walk "$canary" "./$path" "$@" ;;
        *) echo "canary $canary: caught by$settings $name${*:+ $*}" ;;
        esac
    elif [ "$status" -eq 77 ] && [ -n "$settings" ]; then
        echo "canary $canary: passed over: $name is skipped here"
    else
        complain "$canary" "$name $* does not notice it (status $status)"
    fi
}

mkdir "$tree"
for part in meson.build meson_options.txt include src proto tests fuzz docs; do
    cp -R "$source/$part" "$tree/"
done
meson setup -Dbuildtype=plain -Doptimization=1 -Dwarning_level=0 -Dwerror=false "$build" "$tree" >"$scratch/log" 2>&1 ||
    { cat "$scratch/log"; exit 1; }
walk=$(program walk)
ninja -C "$build" "$walk" >"$scratch/log" 2>&1 || { tail -n 30 "$scratch/log"; exit 1; }
"$build/$walk" --list >"$scratch/scenarios"

: >"$scratch/cages"
for file in "$source"/tests/canaries/*.patch; do
    canary=$(basename "$file" .patch)
    if [ $# -gt 0 ]; then
        case " $* " in
        *" $canary "*) ;;
        *) continue ;;
        esac
    fi
    cage=$(sed -n '1s/^Caught by: //p' "$file")
    case $cage in
    fuzz/*) continue ;;
    esac
    count=$((count + 1))
    echo "$cage" >>"$scratch/cages"
    if [ -z "$cage" ] || ! patch -d "$tree" -p1 -F0 --no-backup-if-mismatch <"$file" >"$scratch/log" 2>&1; then
        complain "$canary" "$file says not what it is for, or is no patch for this tree"
        # Whatever of it went in.
        rm -rf "$tree/src" "$tree/proto" && cp -R "$source/src" "$source/proto" "$tree/"
        continue
    fi
    # shellcheck disable=SC2086 # a command line
    watch "$canary" $cage
    patch -d "$tree" -p1 -F0 --no-backup-if-mismatch -R <"$file" >"$scratch/log" 2>&1
done

# Each cage has its bird.
if [ $# -eq 0 ]; then
    while read -r scenario; do
        if ! grep -qx "walk --only $scenario" "$scratch/cages"; then
            echo "scenario $scenario: FAILED: there is no canary for it"
            failures=$((failures + 1))
        fi
    done <"$scratch/scenarios"
fi
echo "$count canaries, $failures failures"
[ "$count" -gt 0 ] && [ "$failures" -eq 0 ]
