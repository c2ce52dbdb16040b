# SPDX-License-Identifier: MIT
"""What was measured, as a table, as CSV and as charts."""
import csv
import json
import os
import platform
import re
import shutil
import statistics
import subprocess

from bench_run import LIMIT, SERVERS, WORKLOADS

METRICS = ("rate", "server_cpu_us", "load_cpu_us", "total_cpu_us", "syscalls", "p50_us", "p99_us", "p999_us", "max_us",
           "rss_mb", "peak_mb", "requests", "behind")
PALETTE = ("#4e79a7", "#f28e2b", "#e15759", "#76b7b2", "#59a14f", "#edc948", "#b07aa1", "#ff9da7", "#9c755f",
           "#bab0ac", "#1f3b57", "#7a4a10", "#6d1f21", "#2f5a57", "#2b4f27", "#776115", "#573c51", "#8a3b44",
           "#4a372d", "#555555")


def median(values):
    values = [value for value in values if value is not None]
    return statistics.median(values) if values else None


def spread(values):
    """The distance between the quartiles, in percent of the median."""
    if len(values) < 2 or not statistics.median(values):
        return 0
    first, _, third = statistics.quantiles(values, n=4, method="inclusive")
    return 100 * (third - first) / statistics.median(values)


def paired(runs, workload, name, other, metric):
    """The median over the rounds of the ratio of two servers, each pair from one round."""
    ours, theirs = runs.get((workload, name), {}), runs.get((workload, other), {})
    ratios = [ours[i][metric] / theirs[i][metric] for i in ours if i in theirs and theirs[i][metric]]
    return median(ratios)


def shown(value, form="%.2f"):
    return "-" if value is None else form % value


def row(runs, workload, name):
    rounds = list(runs[workload, name].values())
    figures = {metric: median([told.get(metric) for told in rounds]) for metric in METRICS}
    figures["spread"] = spread([told["rate"] for told in rounds])
    figures["cpu_spread"] = spread([told["server_cpu_us"] for told in rounds])
    figures["rate_ratio"] = paired(runs, workload, name, LIMIT, "rate")
    figures["cpu_ratio"] = paired(runs, workload, name, LIMIT, "server_cpu_us")
    figures["total_ratio"] = paired(runs, workload, name, LIMIT, "total_cpu_us")
    return figures


def table(runs, failures, workload, names):
    """Prints what was measured under a workload."""
    print("\n%s: %s" % (workload, WORKLOADS[workload][0]))
    print("%-20s%11s%7s%9s%7s%9s%9s%9s%9s%9s%9s%7s%9s   <- ratios to %s" % (
        "", "requests/s", "+-%", "CPU us", "+-%", "calls", "p50 us", "p99 us", "p99.9 us", "RSS MB", "rate", "CPU",
        "c+s CPU", LIMIT))
    for name in names:
        if (workload, name) in failures:
            print("%-20s     - %s" % (name, failures[workload, name]))
        if (workload, name) not in runs:
            continue
        told = row(runs, workload, name)
        print("%-20s%11.0f%7.1f%9.3f%7.1f%9s%9.1f%9.1f%9.1f%9.1f%9s%7s%9s" % (
            name, told["rate"], told["spread"], told["server_cpu_us"], told["cpu_spread"],
            shown(told["syscalls"], "%.3f"), told["p50_us"], told["p99_us"], told["p999_us"], told["rss_mb"],
            shown(told["rate_ratio"]), shown(told["cpu_ratio"]), shown(told["total_ratio"])), flush=True)


def write_csv(folder, runs, memory):
    """runs.csv: a line for each run; summary.csv: for each server under each workload; memory.csv: for each server."""
    with open(os.path.join(folder, "runs.csv"), "w", newline="") as file:
        out = csv.writer(file)
        out.writerow(("workload", "server", "round") + METRICS)
        for (workload, name), rounds in runs.items():
            for i, told in rounds.items():
                out.writerow([workload, name, i] + [told.get(metric) for metric in METRICS])
    columns = METRICS + ("spread", "cpu_spread", "rate_ratio", "cpu_ratio", "total_ratio")
    with open(os.path.join(folder, "summary.csv"), "w", newline="") as file:
        out = csv.writer(file)
        out.writerow(("workload", "server", "rounds") + columns)
        for workload, name in runs:
            told = row(runs, workload, name)
            out.writerow([workload, name, len(runs[workload, name])] + [told[column] for column in columns])
    columns = list(next(iter(memory.values()), {}))
    with open(os.path.join(folder, "memory.csv"), "w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["server"] + columns)
        for name, told in memory.items():
            out.writerow([name] + [told[column] for column in columns])


def write_machine(folder, options, network):
    """machine.json: where and how it was measured. Which machine it was is nobody's business; what it is like, is."""
    with open("/proc/cpuinfo") as file:
        found = re.search(r"^model name\s*:\s*(.+)$", file.read(), re.MULTILINE)
    with open(os.path.join(folder, "machine.json"), "w") as file:
        json.dump({"kernel": ".".join(re.findall(r"\d+", platform.release())[:2]), "cores": os.cpu_count(),
                   "processor": found.group(1) if found else platform.machine(), "rounds": options.rounds,
                   "seconds": options.seconds, "network": network}, file)


def csv_rows(folder, name):
    """The lines of a table, each as {column: text}; none if it is not there."""
    path = os.path.join(folder, name)
    if not os.path.exists(path):
        return []
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def read_csv(folder):
    """What write_csv() wrote of the last run: runs and memory, as they were."""
    runs, memory = {}, {}
    for told in csv_rows(folder, "runs.csv"):
        figures = {metric: float(told[metric]) if told[metric] else None for metric in METRICS}
        runs.setdefault((told["workload"], told["server"]), {})[int(told["round"])] = figures
    for told in csv_rows(folder, "memory.csv"):
        server = told.pop("server")
        memory[server] = {column: float(value) for column, value in told.items()}
    return runs, memory


HEADER = """set terminal svg size %d,%d font 'sans-serif,12' background '#ffffff'
set output '%s'
set title "%s"
set ylabel "%s"
set grid ytics lc rgb '#dddddd'
set border 3
set tics nomirror
set key outside right top vertical
"""


def plot(folder, name, script, tell):
    path = os.path.join(folder, name + ".gnuplot")
    with open(path, "w") as file:
        file.write(script)
    done = subprocess.run(["gnuplot", name + ".gnuplot"], cwd=folder, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        tell("gnuplot: %s: %s" % (name, done.stderr.strip()))
    return done.returncode == 0


def bars(folder, title, file, ylabel, groups, series, value, tell, line=None):
    """A chart of clustered bars: a cluster for each group, a bar for each of the series."""
    data = os.path.join(folder, file + ".dat")
    with open(data, "w") as out:
        for group in groups:
            figures = [value(group, name) for name in series]
            out.write(" ".join([group] + ["-" if figure is None else "%.6g" % figure for figure in figures]) + "\n")
    script = HEADER % (max(900, 60 * len(groups) + 12 * len(groups) * len(series)), 480, file + ".svg", title, ylabel)
    script += "set style data histograms\nset style histogram clustered gap 2\nset style fill solid\n"
    script += "set boxwidth 0.9\nset datafile missing '-'\nset yrange [0:*]\n"
    if line is not None:
        script += "set arrow from graph 0, first %g to graph 1, first %g nohead lc rgb '#000000' dt 2\n" % (line, line)
    script += "plot " + ", \\\n     ".join(
        "'%s.dat' using %d:xtic(1) title '%s' noenhanced lc rgb '%s'" % (file, i + 2, name, PALETTE[i % len(PALETTE)])
        for i, name in enumerate(series)) + "\n"
    return plot(folder, file, script, tell)


def latency_lines(folder, runs, names, tell):
    """Latency over the rate of the open loop, with the rate in thousands."""
    rates = [("W10a", 50), ("W10b", 150), ("W10c", 240)]
    done = True
    for metric, title in (("p50_us", "median"), ("p99_us", "99th percentile"), ("p999_us", "99.9th percentile")):
        file = "latency_" + metric[:-3]
        present = [name for name in names if any((workload, name) in runs for workload, _ in rates)]
        if not present:
            return True
        with open(os.path.join(folder, file + ".dat"), "w") as out:
            for workload, rate in rates:
                figures = [row(runs, workload, name)[metric] if (workload, name) in runs else None for name in present]
                out.write(" ".join(["%d" % rate] + [shown(figure, "%.6g") for figure in figures]) + "\n")
        script = HEADER % (900, 480, file + ".svg", "Latency in an open loop, " + title, "microseconds")
        script += "set xlabel 'thousand requests/s'\nset logscale y\nset datafile missing '-'\nset xrange [40:250]\n"
        script += "plot " + ", \\\n     ".join(
            "'%s.dat' using 1:%d title '%s' noenhanced with linespoints lw 2 lc rgb '%s'"
            % (file, i + 2, name, PALETTE[i % len(PALETTE)]) for i, name in enumerate(present)) + "\n"
        done = plot(folder, file, script, tell) and done
    return done


def charts(folder, runs, memory, workloads, names, tell):
    """Writes the SVG files. Without gnuplot there are none."""
    if not shutil.which("gnuplot"):
        tell("no charts: gnuplot is missing")
        return False
    closed = [workload for workload in workloads if not workload.startswith("W10")]

    def ratio(metric):
        return lambda workload, name: paired(runs, workload, name, LIMIT, metric)

    done = True
    if closed and any(name == LIMIT for _, name in runs):
        done = bars(folder, "Requests/s, as a share of io_uring by hand", "throughput", "ratio, higher is better",
                    closed, names, ratio("rate"), tell, 1) and done
        done = bars(folder, "CPU of the server a request, against io_uring by hand", "cpu", "ratio, lower is better",
                    closed, names, ratio("server_cpu_us"), tell, 1) and done
    if memory:
        series = [name for name in names if name in memory]
        # A server that has a table for all of them from the start allocates nothing, and touches its pages later.
        done = bars(folder, "An idle connection", "memory", "bytes, allocated or resident", ["bytes"], series,
                    lambda _, name: max(memory[name]["bytes"], memory[name]["rss_bytes"]), tell) and done
    return latency_lines(folder, runs, names, tell) and done


def legend(names):
    for name in names:
        print("%-20s%s" % (name, SERVERS[name]))
