# SPDX-License-Identifier: MIT
"""The acceptance table: what the library promises of its speed, each promise a line with its figure.

A line compares two servers, in pairs of runs that follow each other, until the bootstrap 95 % interval of the ratio is
within +-1.5 % or 41 rounds are done. It fails when the whole interval lies beyond its limit; when the interval spans
the limit it is unclear, which is no failure. A goal is told and fails nothing.
"""
import os
import random
import re
import shutil
import statistics
import subprocess
import time

from bench_run import IDLE, LIMIT, PEERS, Failed, burst_memory, idle_memory, instructions, measure, micro, syscalls

RESAMPLES = 2000
WIDTH = 0.015
LEAST_ROUNDS, MOST_ROUNDS = 7, 41
SCOUT_ROUNDS = 3
FIXED_MOST_MB = 12
SIMULATED = 1000000

CPU, TOTAL, RATE, P50 = "server_cpu_us", "total_cpu_us", "rate", "p50_us"
NAMES = {CPU: "CPU", TOTAL: "server + client CPU", RATE: "throughput", P50: "p50"}

# workload: against the raw limit, then of `auto` against the best peer: (metric, "<=" or ">=", limit, goal or None)
AGAINST_RAW = {
    "W1": ((CPU, "<=", 1.05, None), (RATE, ">=", .95, None)),
    "W2": ((CPU, "<=", 1.05, None), (RATE, ">=", .95, None)),
    "W8": ((CPU, "<=", 1.05, None), (RATE, ">=", .95, None)),
    "W3": ((CPU, "<=", 1.05, None), (RATE, ">=", .95, None)),
    "W4": ((CPU, "<=", 1.08, None), (RATE, ">=", .95, None)),
    "W5": ((TOTAL, "<=", 1.03, None), (RATE, ">=", .95, None)),
    "W6": ((TOTAL, "<=", 1.03, None), (RATE, ">=", .95, None)),
    "W7": ((CPU, "<=", 1.08, None), (RATE, ">=", .95, None)),
    "W10b": ((P50, "<=", 1.2, None), (CPU, "<=", 1.05, None)),
}
AGAINST_PEERS = {
    "W1": (CPU, "<=", 1.0, .96),
    "W2": (CPU, "<=", 1.0, .96),
    "W8": (CPU, "<=", 1.0, .96),
    "W3": (RATE, ">=", 1.0, None),
    "W4": (RATE, ">=", 1.0, None),
    "W5": (TOTAL, "<=", 1.0, None),
    "W6": (TOTAL, "<=", 1.0, None),
    "W7": (CPU, "<=", .97, None),
    "W10b": (CPU, "<=", 1.0, None),
}
PARTS = ("syscalls", "instructions", "micro")  # which are no workload
SYSCALLS = {"W1": .10, "W2": .01, "W7": 1}
INSTRUCTIONS_MORE = 250


def bootstrap(ratios, seed=1):
    """The median and its 95 % interval."""
    draws = random.Random(seed)
    medians = sorted(statistics.median(draws.choices(ratios, k=len(ratios))) for _ in range(RESAMPLES))
    return statistics.median(ratios), medians[int(.025 * RESAMPLES)], medians[int(.975 * RESAMPLES) - 1]


def verdict(low, high, sign, limit):
    """PASS, FAIL or unclear, by where the interval lies."""
    if sign == ">=":
        low, high, limit = -high, -low, -limit
    return "FAIL" if low > limit else "PASS" if high <= limit else "unclear"


class Check:
    """Runs the table, says each line as it is known, and counts the failures."""

    def __init__(self, bench, options, tell):
        self.bench, self.options, self.tell = bench, options, tell
        self.have = bench.servers()
        self.counts = {"PASS": 0, "FAIL": 0, "unclear": 0, "skipped": 0, "goal": 0}
        self.most = options.rounds or MOST_ROUNDS
        self.least = min(LEAST_ROUNDS, self.most)

    def say(self, word, what, figure):
        self.counts[word] += 1
        print("%-8s %-58s %s" % (word, what, figure), flush=True)

    def run(self, name, workload):
        return measure(self.bench, name, workload, self.options.seconds, self.options.warmup)

    def rounds(self, workload, names, enough):
        """Interleaved rounds of these servers until enough(rounds) or the most that are allowed."""
        rounds = []
        while len(rounds) < self.most and not (len(rounds) >= self.least and enough(rounds)):
            self.tell("%s round %d: %s" % (workload, len(rounds) + 1, " ".join(names)))
            # The one that goes first is another each time.
            first = len(rounds) % len(names)
            rounds.append({name: self.run(name, workload) for name in names[first:] + names[:first]})
        return rounds

    def judge(self, what, ratios, sign, limit, goal=None):
        middle, low, high = bootstrap(ratios)
        figure = "%.3f  [%.3f, %.3f]  %d rounds" % (middle, low, high, len(ratios))
        if limit is None:
            word = "goal"
        else:
            word = verdict(low, high, sign, limit)
            figure += "; limit %s %g" % (sign, limit)
        if goal is not None:
            reached = verdict(low, high, sign, goal)
            figure += "; goal %s %g %s" % (sign, goal, {"PASS": "reached", "FAIL": "missed"}.get(reached, "unclear"))
        self.say(word, what, figure)

    def narrow(self, pairs):
        """Whether the interval of each (server, other, metric) is as narrow as asked."""
        def enough(rounds):
            for name, other, metric in pairs:
                middle, low, high = bootstrap([told[name][metric] / told[other][metric] for told in rounds])
                if high - middle > WIDTH * middle or middle - low > WIDTH * middle:
                    return False
            return True
        return enough

    def compare(self, workload, lines):
        """Each line is (server, other, metric, sign, limit, goal, what). All are measured in the same rounds."""
        if not lines:
            return
        names = list(dict.fromkeys(name for line in lines for name in line[:2]))
        rounds = self.rounds(workload, names, self.narrow([line[:3] for line in lines]))
        for name, other, metric, sign, limit, goal, what in lines:
            self.judge(what, [told[name][metric] / told[other][metric] for told in rounds], sign, limit, goal)

    def best(self, workload, names, metric, sign):
        """The best of several by a few rounds."""
        names = [name for name in names if name in self.have]
        if len(names) < 2:
            return names[0] if names else None
        seen = {name: [] for name in names}
        for i in range(min(SCOUT_ROUNDS, self.most)):
            self.tell("%s: looking for the best of %s, %d" % (workload, " ".join(names), i + 1))
            for name in names:
                seen[name].append(self.run(name, workload)[metric])
        choose = min if sign == "<=" else max
        return choose(names, key=lambda name: statistics.median(seen[name]))

    def workload(self, workload):
        lines = []
        if LIMIT in self.have:
            for metric, sign, limit, goal in AGAINST_RAW[workload]:
                lines.append(("proactor_uring", LIMIT, metric, sign, limit, goal,
                              "%s io_uring against raw: %s" % (workload, NAMES[metric])))
        if workload == "W3" and LIMIT in self.have:
            lines.append(("proactor_uring_spin", LIMIT, RATE, ">=", 3, None, "W3 spinning against raw: throughput"))
        if workload == "W6" and "epoll_bulk" in self.have:
            # A goal, without a limit.
            lines.append((self.bench.auto, "epoll_bulk", TOTAL, "<=", None, 1.0,
                          "W6 auto against epoll, bulk: server + client CPU"))
        metric, sign, limit, goal = AGAINST_PEERS[workload]
        peer = self.best(workload, ("uv",) if workload == "W10b" else PEERS, metric, sign)
        if peer:
            lines.append((self.bench.auto, peer, metric, sign, limit, goal,
                          "%s auto against the best peer, %s: %s" % (workload, peer, NAMES[metric])))
        if workload != "W10b":
            plain = self.best(workload, ("epoll_et", "epoll_bulk"), CPU, "<=")
            if plain:
                lines.append(("proactor_epoll", plain, CPU, "<=", 1.05, None,
                              "%s on epoll against %s: CPU" % (workload, plain)))
        self.compare(workload, lines)

    def figure(self, what, sign, limit, measured, form="%.3f", goal=None):
        """A line that is one figure and no ratio."""
        value = measured()
        if value is None:
            self.say("skipped", what, "cannot be measured here")
            return
        text = (form + "  limit %s %g") % (value, sign, limit)
        if goal is not None:
            text += "; goal %g %s" % (goal, "reached" if value <= goal else "missed")
        self.say(verdict(value, value, sign, limit), what, text)

    def system_calls(self):
        for workload, limit in SYSCALLS.items():
            self.figure("%s io_uring: system calls a request" % workload, "<=", limit,
                        lambda: syscalls(self.bench, "proactor_uring", workload, self.options.seconds), "%.4f")

    def instruction_counts(self):
        if not shutil.which("valgrind"):
            self.say("skipped", "instructions a request", "valgrind is missing")
            return
        for workload in ("W1", "W2"):
            raw = instructions(self.bench, LIMIT, workload, 2)
            ours = instructions(self.bench, "proactor_uring", workload, 2)
            self.figure("%s io_uring: instructions a request, over raw's %.0f" % (workload, raw), "<=",
                        INSTRUCTIONS_MORE, lambda: ours - raw, "%.0f")

    def simulated(self):
        """The same a million times over, in the simulation. The program is one of the tests'."""
        program = os.path.join(self.bench.build, "tests", "sim")
        if not os.path.exists(program):
            return None
        text = subprocess.run([program, "--idle", str(self.options.simulated or SIMULATED)], stdout=subprocess.PIPE,
                              text=True).stdout
        found = [float(number) for number in re.findall(r"([\d.]+) bytes of user memory each", text)]
        return max(found) if found else None

    def memory(self):
        count = self.options.idle or IDLE
        told = idle_memory(self.bench, self.bench.auto, count)
        self.figure("W9 an idle connection of %d: bytes of the allocator" % count, "<=", 384, lambda: told["bytes"],
                    "%.0f", 256)
        self.figure("W9 the same, in the simulation", "<=", 384, self.simulated, "%.0f", 256)
        self.figure("W9 the server without connections: resident MB", "<=", FIXED_MOST_MB, lambda: told["fixed_mb"],
                    "%.1f")
        burst = burst_memory(self.bench, self.bench.auto, self.options.seconds)
        rise = max(burst["height_mb"] - burst["before_mb"], 1e-9)
        self.figure("W9 after a W6 burst of %.1f MB: share that stays" % rise, "<=", .25,
                    lambda: max(burst["after_mb"] - burst["before_mb"], 0) / rise, "%.2f")

    def micro_lines(self):
        told = micro(self.bench)
        nop, timers, post = told["nop"], told["timers"], told["post"]
        self.figure("start to continuation, over bare liburing: ns", "<=", 30,
                    lambda: nop["library_ns"] - nop["bare_ns"], "%.1f")
        self.figure("10^6 timers pending: ns to set one", "<=", 100, lambda: timers["set_ns"], "%.1f")
        self.figure("10^6 timers pending: ns to cancel one", "<=", 100, lambda: timers["cancel_ns"], "%.1f")
        self.figure("post from one thread: millions/s", ">=", 5, lambda: post["library_per_s"] / 1e6, "%.2f")

    def all(self):
        """Returns the exit status."""
        start = time.monotonic()
        parts = [(workload, lambda workload=workload: self.workload(workload)) for workload in AGAINST_RAW]
        parts.append(("W9", self.memory))
        parts += zip(PARTS, (self.system_calls, self.instruction_counts, self.micro_lines))
        for name, part in parts:
            if self.options.workloads and name not in self.options.workloads:
                continue
            try:
                part()
            except Failed as failure:
                self.say("FAIL", name, str(failure))
        print("\n%s, in %.0f min" % (", ".join("%d %s" % (count, word) for word, count in self.counts.items()),
                                     (time.monotonic() - start) / 60))
        return 1 if self.counts["FAIL"] else 0
