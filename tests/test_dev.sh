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

# refused ARGUMENT...: with one line, and nothing is done.
refused()
{
    dev 2 "$@"
    [ "$(cat "$work/out" "$work/said" | wc -l)" -eq 1 ] || fail "dev $*: not one line"
    [ ! -s "$calls" ] || fail "dev $*: $(cat "$calls")"
}

# called TEXT: something was, with that in its line.
called()
{
    grep -qF -e "$1" "$calls" || fail "nothing is called with: $1; but $(cat "$calls")"
}

# ---- Commands ----

dev 0
dev 0 help
refused ''
refused help foo
refused nothing
refused build foo

ln -s "$tree/dev" "$work/link"
ln -s ../link "$work/elsewhere/link"
(cd "$work/elsewhere" && ./link build) >"$work/out" 2>"$work/said" || fail 'a link to dev does not build'
[ -f "$tree/build/.dev" ] || fail 'a link to dev builds elsewhere'

# ---- A build stays until there can be another ----

: >"$tree/build/good"
for compiler in no-such-compiler false; do
    status=0
    (CC=$compiler && export CC && "$tree/dev" build) >"$work/out" 2>"$work/said" || status=$?
    [ "$status" -eq 1 ] || fail "CC=$compiler: status $status"
    grep -qF "does not work: $compiler" "$work/said" || fail "CC=$compiler is not named"
    [ -f "$tree/build/good" ] || fail "CC=$compiler: the good build is gone"
done
played "$work/bin/another" <"$work/bin/compiler"
(CC=another && export CC && "$tree/dev" build) >"$work/out" 2>"$work/said" || fail 'another compiler builds nothing'
[ ! -e "$tree/build/good" ] || fail 'another compiler builds in the old folder'

# ---- install ----

for prefix in '' --help --prefix=/x -h; do
    refused install "$prefix"
done
refused install /x /y
dev 0 install below/here
called "meson setup --buildtype=debugoptimized -Dtests=false --prefix $work/elsewhere/below/here"

# ---- fuzz and mutate ----

for seconds in 0 00 000 '' -1 1x; do
    refused fuzz frame "$seconds"
    refused fuzz "$seconds"
done
refused fuzz frame 1 2 3 4 5 6 7 8 9
refused fuzz minimise
refused fuzz minimise frame extra
refused fuzz replay nothing

played "$tree/build-asan/fuzz/fuzz_frame" <<'END_REPLAY'
for file in "$@"; do
    cat "$file" || exit
done
END_REPLAY
echo 'an input' >"$work/elsewhere/one input"
dev 0 fuzz replay frame 'one input' "$work/elsewhere/one input"
[ "$(grep -c '^an input$' "$work/out")" -eq 2 ] || fail 'fuzz replay does not find its files'

for part in nosuchmutant --help; do
    dev 1 mutate "$part"
    grep -q "no mutant .*: $part" "$work/said" || fail "mutate $part says something else"
done

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
