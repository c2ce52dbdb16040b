# SPDX-License-Identifier: MIT
"""What each knob of io_uring gives: a server with one of them turned, against the server as it is tuned. By hand, and
the features of the library.

They take turns, and a ratio is of two runs that follow each other. Small frames are judged by the CPU time of the
server, large ones by that of server and client, for work wanders between the two.
"""
import csv
import os

from bench_check import CPU, TOTAL, bootstrap
from bench_report import csv_rows
from bench_run import LIMIT, Failed, correct, measure

# what is said of it, the option of the server by hand
BY_HAND = (
    ("COOP_TASKRUN in place of DEFER_TASKRUN", "--without defer-taskrun"),
    ("neither of the two", "--without defer-taskrun --without coop-taskrun"),
    ("one-shot receives", "--without multishot-receive"),
    ("receives wait first (POLL_FIRST)", "--with receive-poll-first"),
    ("single accepts", "--without multishot-accept"),
    ("a completion for every send", "--without skip-success"),
    ("no early submit", "--without early-submit"),
    ("receive buffers of 16 KiB", "--without large-buffers"),
    ("large frames received by multishot", "--without bulk"),
    ("buffers begin where pages do", "--without stagger"),
    ("buffers on huge pages", "--with huge-pages"),
    ("registered ring descriptor", "--with ring-descriptor"),
    ("min-wait of 10 \u00b5s", "--min-wait 10"),
    ("spinning before it sleeps", "--spin"),
)
# the same of the library's
LIBRARY = (
    ("without DEFER_TASKRUN", "--without defer_taskrun"),
    ("without SUBMIT_ALL", "--without submit_all"),
    ("a poll that stands, then receives", "--without buffer_ring"),
    ("one-shot receives", "--without recv_multishot"),
    ("single accepts", "--without accept_multishot"),
    ("a completion for every send", "--without skip_success"),
    ("without a registered ring", "--without registered_ring"),
    ("min-wait of 10 \u00b5s", "--min-wait 10us"),
    ("spinning for 50 \u00b5s before it sleeps", "--spin 50us"),
)
OURS = "proactor_uring"
KNOBS = tuple((what, LIMIT, option) for what, option in BY_HAND) + tuple(
    (what, OURS, option) for what, option in LIBRARY)
METRICS = {"W1": CPU, "W4": CPU, "W5": TOTAL, "W6": TOTAL, "W7": CPU}


def run(bench, options, tell, results):
    """Prints the table and writes ablation.csv. Returns what failed."""
    names = [base + " " + option for _, base, option in KNOBS]
    failures = {}
    for name in names:
        tell("is %s right?" % name)
        wrong = correct(bench, name, options.seed)
        if wrong:
            failures[name] = wrong
    told = {}
    for workload in [workload for workload in METRICS if workload in (options.workloads or METRICS)]:
        metric, ratios = METRICS[workload], {name: [] for name in names if name not in failures}
        for i in range(options.rounds):
            tell("ablation: %s, round %d of %d" % (workload, i + 1, options.rounds))
            for name, values in ratios.items():
                base = name.split()[0]
                try:
                    figures = {server: measure(bench, server, workload, options.seconds, options.warmup)[metric]
                               for server in ((base, name) if i % 2 else (name, base))}
                    values.append(figures[name] / figures[base])
                except Failed as failure:
                    failures[workload + ", " + name] = str(failure)
        for name, values in ratios.items():
            if values:
                told[name, workload] = bootstrap(values) + (len(values),)
        write(results, told)  # what there is, should the rest be interrupted
    show(told)
    for what, why in failures.items():
        print("bench: %s: %s" % (what, why))
    return failures


def write(results, told):
    with open(os.path.join(results, "ablation.csv"), "w", newline="") as file:
        out = csv.writer(file)
        out.writerow(("knob", "option", "workload", "metric", "ratio", "low", "high", "rounds"))
        for knob, base, option in KNOBS:
            name = base + " " + option
            for workload, metric in METRICS.items():
                if (name, workload) in told:
                    out.writerow((knob, name, workload, metric) + told[name, workload])


def show(told):
    workloads = [workload for workload in METRICS if any(workload == other for _, other in told)]
    print("\nCPU a request with the knob turned, of what it is as tuned (W5, W6: of server and client)")
    print("%-58s%s" % ("", "".join("%-22s" % workload for workload in workloads)))
    for knob, base, option in KNOBS:
        cells = [told.get((base + " " + option, workload)) for workload in workloads]
        print("%-15s %-42s%s" % (base, knob, "".join("%-22s" % ("-" if not cell else "%.3f [%.3f, %.3f]" % cell[:3])
                                         for cell in cells)), flush=True)


def read(results):
    """{(knob, option): {workload: row}} of the last run, or nothing."""
    table = {}
    for row in csv_rows(results, "ablation.csv"):
        table.setdefault((row["knob"], row["option"]), {})[row["workload"]] = row
    return table
