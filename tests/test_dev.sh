#!/bin/sh
# What ./dev does with its arguments and the folders, in a copy of the tree whose path has a space. What it would call
# to build is played by scripts, so that nothing is compiled: test_dev.sh SOURCE-FOLDER
set -eu
source=$1
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT
tree="$work/a tree"
calls=$work/calls

fail()
{
    printf 'test_dev: %s\n' "$*" >&2
    [ ! -s "$work/said" ] || cat "$work/said" >&2
    exit 1
}

# played FILE: a program that is the script on standard input.
played()
{
    mkdir -p "$(dirname "$1")"
    { echo '#!/bin/sh' && cat; } >"$1"
    chmod +x "$1"
}

mkdir -p "$tree/proto" "$work/elsewhere"
cp "$source/dev" "$tree/dev"
cp -R "$source/fuzz" "$tree/fuzz"
cp "$source/proto/frame.c" "$tree/proto"
played "$work/bin/meson" <<'END_MESON'
echo "meson $*" >>"$CALLS"
[ "$1" != setup ] || { for folder in "$@"; do :; done; mkdir -p "$folder" && : >"$folder/build.ninja"; }
END_MESON
played "$work/bin/ninja" <<'END_NINJA'
echo "ninja $*" >>"$CALLS"
END_NINJA
played "$work/bin/compiler" <<'END_COMPILER'
cat >/dev/null
END_COMPILER
unset CFLAGS LDFLAGS DESTDIR MAKEFLAGS
export PATH="$work/bin:$PATH" CALLS="$calls" DEV_INSTALL=no CC=compiler CXX=compiler

# dev STATUS ARGUMENT...: from another folder, it ends with that status.
dev()
{
    wanted=$1 status=0
    shift
    : >"$calls"
    (cd "$work/elsewhere" && "$tree/dev" "$@") >"$work/out" 2>"$work/said" || status=$?
    [ "$status" -eq "$wanted" ] || fail "dev $*: status $status, not $wanted"
}

# ---- The corpus survives a merge that fails; libFuzzer starts itself through a shell, and does not see how that ends ----

corpus=$tree/fuzz/corpus/frame
played "$tree/build-fuzz/libfuzzer/fuzz/fuzz_frame" <<'END_FUZZER'
if [ "$1" = -inner ]; then
    for folder in "$@"; do
        case $folder in
        -*) ;;
        *)
            [ -n "${chosen:-}" ] || chosen=$folder
            [ "$chosen" = "$folder" ] || cp "$folder"/* "$chosen"
            ;;
        esac
    done
else
    sh -c "$0 -inner -control=$TMPDIR/control $*" || :
fi
END_FUZZER
inputs=$(find "$corpus" -type f | wc -l)
[ "$inputs" -gt 10 ] || fail 'there is no corpus'
mkdir -p "$tree/build-fuzz/corpus/frame"
echo 'something new' >"$tree/build-fuzz/corpus/frame/new"
mkdir "$work/for a while"
export TMPDIR="$work/for a while"
dev 0 fuzz minimise frame
[ "$(find "$corpus" -type f | wc -l)" -eq $((inputs + 1)) ] || fail 'fuzz minimise does not keep what the merge chose'

for end in 0 1; do
    played "$tree/build-fuzz/libfuzzer/fuzz/fuzz_frame" <<END_FUZZER
exit $end
END_FUZZER
    dev 1 fuzz minimise frame
    [ "$(find "$corpus" -type f | wc -l)" -eq $((inputs + 1)) ] || fail 'a merge of nothing takes the corpus away'
done
