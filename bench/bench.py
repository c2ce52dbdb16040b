#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Measures the servers of a build folder under the workloads, for ./dev bench. It builds nothing.

The servers take turns (A B C B C A …), each started anew for each run, on a core of its own; the load generator has
another. What is printed are medians over the rounds, with the distance of the quartiles in percent beside them, and
ratios to io_uring by hand, each from pairs of runs of one round. CPU is what the kernel charged to the server, at the
two ends of the measured time. System calls are counted in a run apart.
"""
import argparse
import os
import sys

import bench_ablation
import bench_check
import bench_net
import bench_publish
import bench_report
from bench_run import (IDLE, LIMIT, SERVERS, WORKLOADS, Bench, Failed, canaries, correct, idle_memory, instructions,
                       measure, micro, micro_once, syscalls)

SMOKE = {"seconds": .05, "warmup": .02}
SMOKE_ALL = ("W1", "W6", "W7")  # of every server
SMOKE_IDLE = 200
SMOKE_COUNT = 1000


def tell(text):
    """How it goes on, on one line of a terminal or many of a log."""
    if sys.stderr.isatty():
        print("\r\033[Kbench: " + text[:110], end="", file=sys.stderr, flush=True)
    else:
        print("bench: " + text, file=sys.stderr, flush=True)


def clear():
    """Takes that line off the terminal again."""
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr, flush=True)


def check_servers(bench, names, seed):
    """Those that are right. What is wrong with the others is said."""
    good = []
    for name in names:
        tell("is %s right?" % name)
        wrong = correct(bench, name, seed)
        if wrong:
            clear()
            print("bench: %s: NOT MEASURED: %s" % (name, wrong), flush=True)
        else:
            good.append(name)
    clear()
    return good


def rounds(bench, names, workload, options, runs, failures):
    """Adds {(workload, server): {round: figures}} to runs, and to failures why there are none."""
    for i in range(options.rounds):
        first = i % len(names) if names else 0
        for name in names[first:] + names[:first]:
            if (workload, name) in failures:
                continue
            tell("%s, round %d of %d: %s" % (workload, i + 1, options.rounds, name))
            try:
                figures = measure(bench, name, workload, options.seconds, options.warmup)
                runs.setdefault((workload, name), {})[i] = figures
            except Failed as failure:
                failures[workload, name] = str(failure)
                runs.pop((workload, name), None)
    for name in names:
        if (workload, name) not in runs:
            continue
        tell("%s, system calls: %s" % (workload, name))
        try:
            calls = syscalls(bench, name, workload, min(options.seconds, .5))
        except Failed:
            calls = None
        for figures in runs[workload, name].values():
            figures["syscalls"] = calls
    clear()
    bench_report.table(runs, failures, workload, names)


def results_folder(bench, name="results"):
    folder = os.path.join(bench.build, "bench", name)
    os.makedirs(folder, exist_ok=True)
    return folder


def memory_of_all(bench, names, count):
    print("\nW9: memory of an idle connection, of %d" % count)
    print("%-20s%14s%14s%16s" % ("", "allocator B", "resident B", "without, MB"))
    memory = {}
    for name in names:
        tell("W9: " + name)
        try:
            memory[name] = idle_memory(bench, name, count)
        except Failed as failure:
            clear()
            print("%-20s     - %s" % (name, failure))
            continue
        clear()
        told = memory[name]
        print("%-20s%14.0f%14.0f%16.1f" % (name, told["bytes"], told["rss_bytes"], told["fixed_mb"]), flush=True)
    return memory


def print_instructions(bench, names):
    print("\ninstructions a request, in user space")
    for workload in ("W1", "W2"):
        for name in names:
            tell("instructions: %s %s" % (workload, name))
            try:
                figure = "%10.0f" % instructions(bench, name, workload, 2)
            except Failed as failure:
                figure = "         - %s" % failure
            clear()
            print("%-4s%-20s%s" % (workload, name, figure), flush=True)


def print_micro(bench):
    for part, told in micro(bench).items():
        print("%-10s%s" % (part, "  ".join("%s %.4g" % pair for pair in told.items())), flush=True)


def full(bench, options):
    wanted = options.servers or bench.servers()
    names = check_servers(bench, wanted, options.seed)
    workloads = options.workloads or list(WORKLOADS) + ["W9"]
    timed = [workload for workload in workloads if workload in WORKLOADS]
    results = results_folder(bench)
    bench_report.legend(names)
    bench_report.write_machine(results, options, bench.network)
    runs, failures = {}, {}
    for workload in timed:
        rounds(bench, names, workload, options, runs, failures)
        bench_report.write_csv(results, runs, {})  # what there is, should the rest be interrupted
    memory = memory_of_all(bench, names, options.idle or IDLE) if "W9" in workloads else {}
    if options.instructions:
        print_instructions(bench, names)
    bench_report.write_csv(results, runs, memory)
    drawn = bench_report.charts(results, runs, memory, timed, names, tell)
    print("\nbench: tables%s in %s" % (" and charts" if drawn else "", results))
    missing = len(wanted) - len(names) + len(failures) + (len(names) - len(memory) if "W9" in workloads else 0)
    if missing:
        print("bench: FAILED: %d of what was asked for has no figures; see above" % missing)
    return 1 if missing else 0


def smoke(bench, options):
    """A moment of everything: each server under a few workloads, each workload with a few servers."""
    options.seconds, options.warmup, options.rounds = SMOKE["seconds"], SMOKE["warmup"], 1
    names = bench.servers()
    good = check_servers(bench, names, options.seed)
    everywhere = [name for name in (LIMIT, bench.auto, "proactor_epoll") if name in good]
    wrong = [name for name in names if name not in good]
    _, arguments = WORKLOADS["W8"]
    WORKLOADS["W8"] = ("%d idle and 64 active connections" % SMOKE_IDLE,
                       arguments.replace("--idle 10000", "--idle %d" % SMOKE_IDLE))
    runs, failures = {}, {}
    for workload in WORKLOADS:
        rounds(bench, good if workload in SMOKE_ALL else everywhere, workload, options, runs, failures)
    memory = memory_of_all(bench, everywhere, SMOKE_IDLE)
    results = results_folder(bench, "results-smoke")
    bench_report.write_csv(results, runs, memory)
    drawn = bench_report.charts(results, runs, memory, list(WORKLOADS), good, tell)
    clear()
    micro_once(bench, SMOKE_COUNT)
    options.workloads, options.rounds = ["W1"], 1
    failures.update(bench_ablation.run(bench, options, tell, results))
    tell("is a liar found out?")
    missed = canaries(bench)
    clear()
    for lie in missed:
        print("bench: canary: %s" % lie)
    if missed or wrong or failures or not drawn or len(memory) < len(everywhere):
        print("bench: smoke: FAILED: %s" % (" ".join(missed + wrong) or failures or "no charts, or no memory"))
        return 1
    print("bench: smoke: clean")
    return 0


def parse(arguments):
    parser = argparse.ArgumentParser(prog="./dev bench", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", required=True, help=argparse.SUPPRESS)
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--check", action="store_true", help="the acceptance table: PASS, FAIL or unclear for each line")
    mode.add_argument("--smoke", action="store_true", help="a moment of everything, to see that it works")
    mode.add_argument("--correct", action="store_true", help="only see whether the servers are right")
    mode.add_argument("--micro", action="store_true", help="the micro-benchmarks of the library")
    mode.add_argument("--ablation", action="store_true",
                      help="io_uring, by hand and the library, with one knob turned, against itself")
    mode.add_argument("--publish", action="store_true",
                      help="put the last run and the last ablation into the documents: marked tables, and charts")
    mode.add_argument("--list", action="store_true", help="the servers and workloads there are")
    parser.add_argument("--servers", nargs="+", metavar="NAME", choices=sorted(SERVERS),
                        help="only these; --check and --ablation have servers of their own")
    parser.add_argument("--workloads", nargs="+", metavar="W",
                        choices=list(WORKLOADS) + ["W9"] + list(bench_check.PARTS),
                        help="only these; with --check also %s" % ", ".join(bench_check.PARTS))
    parser.add_argument("--rounds", type=int, help="default 5, with --ablation 9; with --check the most, default 41")
    parser.add_argument("--seconds", type=float, default=1.5, help="measured in each run, default %(default)s")
    parser.add_argument("--warmup", type=float, default=.3, help="before that, default %(default)s")
    parser.add_argument("--idle", type=int, help="connections of W9, default %d" % IDLE)
    parser.add_argument("--simulated", type=int, help="connections of W9 in the simulation, default 10^6")
    parser.add_argument("--instructions", action="store_true", help="count instructions with callgrind as well")
    parser.add_argument("--seed", type=int, default=1, help="of the check of correctness")
    options = parser.parse_args(arguments)
    if options.rounds is not None and options.rounds < 1:
        parser.error("--rounds takes a number from 1")
    if not options.check and set(options.workloads or ()) & set(bench_check.PARTS):
        parser.error("%s: only with --check" % ", ".join(bench_check.PARTS))
    return options


def main(arguments):
    options = parse(arguments)
    bench = Bench(options.build)
    names = options.servers or bench.servers()
    if options.list:
        bench_report.legend(names)
        for name, (text, _) in WORKLOADS.items():
            print("%-20s%s" % (name, text))
        return 0
    if options.publish:
        return bench_publish.publish(results_folder(bench), tell)
    bench.network = bench_net.separate()
    print("bench: on %s" % bench.network, flush=True)
    if options.check:
        return bench_check.Check(bench, options, tell).all()
    if options.smoke:
        return smoke(bench, options)
    if options.correct:
        return 0 if check_servers(bench, names, options.seed) == names else 1
    if options.micro:
        print_micro(bench)
        return 0
    if options.ablation:
        options.rounds = options.rounds or 9
        return 1 if bench_ablation.run(bench, options, tell, results_folder(bench)) else 0
    options.rounds = options.rounds or 5
    return full(bench, options)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except Failed as failed_run:
        sys.exit("bench: %s" % failed_run)
    except KeyboardInterrupt:
        sys.exit(130)
