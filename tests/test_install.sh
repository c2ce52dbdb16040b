#!/bin/sh
# Installs the library into a scratch folder and builds a program against it that knows nothing of this tree: in C and
# in C++, linked to the shared and to the static library, found by pkg-config alone.
#
# usage: test_install.sh BUILD_DIR
set -eu
build=$1
command -v c++ >/dev/null || { echo "skipped: no C++ compiler"; exit 77; }
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

meson install -C "$build" --no-rebuild --destdir "$scratch" >"$scratch/log" 2>&1 || { cat "$scratch/log"; exit 1; }
pc=$(find "$scratch" -name proactor.pc)
prefix=$scratch$(sed -n 's/^prefix=//p' "$pc")
PKG_CONFIG_PATH=$(dirname "$pc")
export PKG_CONFIG_PATH
pkg() { pkg-config --define-variable=prefix="$prefix" "$@" proactor; }
LD_LIBRARY_PATH=$(pkg --variable=libdir)
export LD_LIBRARY_PATH

cat >"$scratch/program.c" <<'END'
#include <proactor.h>
#include <proactor/sim.h>
#include <proactor/stream.h>
#include <stdio.h>

struct pro_sim_config world = PRO_SIM_CONFIG_INIT;

static void on_timer(struct pro_loop *loop, struct pro_op *op, struct pro_result result)
{
    (void)op;
    printf("%s %d %s\n", pro_loop_describe(loop), result.res, pro_error_name(-104));
}

int main(void)
{
    struct pro_loop *loop;
    static struct pro_op op;
    if (pro_loop_new(NULL, &loop) < 0 || pro_version() != PRO_VERSION)
        return 1;
    pro_timer_after(loop, &op, 1000, on_timer);
    int left = pro_run(loop, PRO_RUN_DEFAULT);
    pro_loop_free(loop);
    return left;
}
END
cp "$scratch/program.c" "$scratch/program.cc"

try()
{
    name=$1
    shift
    "$@" || { echo "FAILED to build: $name"; exit 1; }
    said=$("$scratch/$name") || { echo "FAILED to run: $name"; exit 1; }
    case $said in
    *" 0 ECONNRESET") echo "$name: $said" ;;
    *) echo "FAILED, $name said: $said"; exit 1 ;;
    esac
}
# shellcheck disable=SC2046
{
    try c_shared cc -std=c17 -Wall -Werror -o "$scratch/c_shared" "$scratch/program.c" $(pkg --cflags --libs)
    try cxx_shared c++ -std=c++11 -Wall -Wpedantic -Werror -o "$scratch/cxx_shared" "$scratch/program.cc" $(pkg --cflags --libs)
    static=$(pkg --variable=libdir)/libproactor.a
    try c_static cc -std=c17 -o "$scratch/c_static" "$scratch/program.c" $(pkg --cflags) "$static" \
        $(pkg --static --libs-only-other) -luring -pthread
    try cxx_static c++ -o "$scratch/cxx_static" "$scratch/program.cc" $(pkg --cflags) "$static" -luring -pthread
}

# What is not public must not be seen, and the shared library must carry its SONAME.
library=$(find "$scratch" -name 'libproactor.so.*.*' | head -n 1)
hidden=$(nm -D --defined-only "$library" | awk '$3 !~ /^pro_/ {print $3}')
[ -z "$hidden" ] || { echo "FAILED: these are exported: $hidden"; exit 1; }
readelf -d "$library" | grep -q 'SONAME.*libproactor\.so\.0' || { echo "FAILED: no SONAME"; exit 1; }
