# SPDX-License-Identifier: MIT
"""Puts what was measured into the documents, so that no figure is typed by hand.

In a document, what stands between two such lines is replaced; where nothing was measured for it, it is left as it is:

    <!-- bench:NAME -->
    <!-- bench:end -->

The figures are those of the last full run and of the last ablation of this build folder. Charts go to docs/charts.
"""
import glob
import json
import os
import re
import shutil

import bench_ablation
import bench_report
from bench_report import row, shown
from bench_run import LIMIT, SERVERS, WORKLOADS

DOCUMENTS = ("README.md", "docs/benchmarks.md", "docs/io-models.md")
CHARTS = os.path.join("docs", "charts")

# model, server: those of docs/io-models.md
MODELS = (
    ("blocking", "blocking"),
    ("non-blocking", "nonblocking"),
    ("multiplexed: select", "select"),
    ("multiplexed: poll", "poll"),
    ("multiplexed: epoll, level-triggered", "epoll_lt"),
    ("multiplexed: epoll, edge-triggered", "epoll_et"),
    ("signal-driven", "signal"),
    ("asynchronous: io_uring", "uring"),
)
MODEL_WORKLOADS = ("W1", "W4", "W6", "W8")
IN_CHARTS = ("uring", "epoll_et", "proactor_uring", "proactor_epoll", "uv", "ev", "event", "asio_epoll", "asio_uring",
             "blocking")

# The one of the README: what a request costs the server's processor.
README_SERIES = (("proactor_uring", "proactor, io_uring", "#2f81c7"), ("proactor_epoll", "proactor, epoll", "#7fb2dd"),
                 ("uv", "libuv", "#d1862f"), ("ev", "libev", "#8a7f3a"), ("asio_epoll", "Asio, epoll", "#4f9a5b"),
                 ("blocking", "a thread each", "#a05a8c"))
README_WORKLOADS = (("W1", "64 connections"), ("W2", "64 x 16 in flight"), ("W4", "1,000 connections"),
                    ("W6", "100 kB frames"), ("W7", "connect, ask, close"), ("W8", "10,000 idle"))
README_TOP = 2.5
GREY = "#808080"  # legible on white and on black


def table(head, lines):
    """A table of Markdown, or None when it has no line."""
    if not lines:
        return None
    return "\n".join(["| " + " | ".join(cells) + " |" for cells in [head, ["---"] * len(head)] + lines])


def closed_workloads(runs):
    return [workload for workload in WORKLOADS if not workload.startswith("W10")
            and any(workload == other for other, _ in runs)]


def servers_of(runs):
    return [name for name in SERVERS if any(name == other for _, other in runs)]


def machine(data):
    if not data["machine"]:
        return None
    return ("Linux %(kernel)s, %(cores)d cores (%(processor)s), %(network)s; %(rounds)d rounds of %(seconds)g s."
            % {"network": "loopback", **data["machine"]})


def results(data):
    """What io_uring by hand does, and the others as ratios to it."""
    runs = data["runs"]
    workloads = closed_workloads(runs)
    if not any(name == LIMIT for _, name in runs):
        return None
    limit = {workload: row(runs, workload, LIMIT) for workload in workloads if (workload, LIMIT) in runs}
    lines = []
    for what, metric, form in (("requests/s", "rate", "%.3g"), ("CPU \u00b5s a request", "server_cpu_us", "%.3g"),
                               ("system calls a request", "syscalls", "%.3f")):
        lines.append(["`%s`: %s" % (LIMIT, what)] + [
            "{:,.0f}".format(limit[workload][metric]) if metric == "rate" else shown(limit[workload][metric], form)
            for workload in limit])
    for name in servers_of(runs):
        if name == LIMIT:
            continue
        cells = []
        for workload in limit:
            told = row(runs, workload, name) if (workload, name) in runs else None
            cpu = "total_ratio" if workload in ("W5", "W6") else "cpu_ratio"
            cells.append("-" if not told else "%s / %s" % (shown(told["rate_ratio"]), shown(told[cpu])))
        lines.append(["`%s`" % name] + cells)
    return table([""] + list(limit), lines)


def latency(data):
    runs, lines = data["runs"], []
    workloads = [workload for workload in WORKLOADS if workload.startswith("W10")
                 and any(workload == other for other, _ in runs)]
    for name in servers_of(runs):
        cells = []
        for workload in workloads:
            told = row(runs, workload, name) if (workload, name) in runs else None
            cells.append("-" if not told else "%.0f / %.0f / %.0f" % (told["p50_us"], told["p99_us"], told["p999_us"]))
        if workloads:
            lines.append(["`%s`" % name] + cells)
    return table([""] + workloads, lines)


def memory(data):
    return table(["", "allocated, bytes", "resident, bytes", "the server without, MB"],
                 [["`%s`" % name, "%.0f" % told["bytes"], "%.0f" % told["rss_bytes"], "%.1f" % told["fixed_mb"]]
                  for name, told in data["memory"].items()])


def models(data):
    runs, lines = data["runs"], []
    for model, name in MODELS:
        cells = []
        for workload in MODEL_WORKLOADS:
            told = row(runs, workload, name) if (workload, name) in runs else None
            cells.append("-" if not told else "%s; %.3g; %s" % (
                shown(told["rate_ratio"]), told["server_cpu_us"], shown(told["syscalls"], "%.2g")))
        if any(cell != "-" for cell in cells):
            lines.append([model, "`%s`" % name] + cells)
    return table(["model", "server"] + list(MODEL_WORKLOADS), lines)


def ablation(data):
    workloads, lines, rounds = list(bench_ablation.METRICS), [], set()
    for (knob, option), told in data["ablation"].items():
        lines.append([knob, "`%s`" % option] + [
            "%.2f [%.2f, %.2f]" % tuple(float(told[workload][column]) for column in ("ratio", "low", "high"))
            if workload in told else "-" for workload in workloads])
        rounds.update(int(row["rounds"]) for row in told.values())
    if not lines:
        return None
    many = "%d" % max(rounds) if len(rounds) == 1 else "%d to %d" % (min(rounds), max(rounds))
    return "Rounds: %s.\n\n%s" % (many, table(["knob", "option"] + workloads, lines))


def charts(data):
    return "\n".join("![%s](charts/%s.svg)\n" % (text, name) for name, text in (
        ("throughput", "Requests per second, as a share of io_uring by hand"),
        ("cpu", "CPU of the server for a request, against io_uring by hand"),
        ("latency_p99", "99th percentile of latency in an open loop"))) if data["runs"] else None


BLOCKS = {"charts": charts, "machine": machine, "results": results, "latency": latency, "memory": memory,
          "models": models, "ablation": ablation}


def fill(text, data):
    """The text with its blocks replaced."""
    def block(found):
        made = BLOCKS[found.group(1)](data) if found.group(1) in BLOCKS else None
        return found.group(0) if made is None else "<!-- bench:%s -->\n%s\n<!-- bench:end -->" % (found.group(1), made)
    return re.sub(r"<!-- bench:(\w+) -->\n(?:.*?\n)??<!-- bench:end -->", block, text, flags=re.DOTALL)


README_CHART = """set terminal svg size 860,340 font 'sans-serif,12' dynamic noenhanced
set output '%s.svg'
set title "CPU time of the server for a request; io_uring by hand is 1, less is better" textcolor rgb '{grey}'
set ylabel "times io_uring by hand" textcolor rgb '{grey}'
set grid ytics lc rgb '{grey}' lw 0.3
set border 3 lc rgb '{grey}'
set tics nomirror textcolor rgb '{grey}'
set key outside bottom center horizontal textcolor rgb '{grey}'
set style data histograms
set style histogram clustered gap 2
set style fill solid
set boxwidth 0.9
set datafile missing '-'
set yrange [0:{top}]
set arrow from graph 0, first 1 to graph 1, first 1 nohead lc rgb '{grey}' lw 1.5 dt 2 front
plot """.format(grey=GREY, top=README_TOP)


def readme_chart(folder, runs, tell):
    """One chart, without a background of its own. A bar higher than the chart is cut, and says how high it is."""
    def ratio(workload, name):
        return bench_report.paired(runs, workload, name, LIMIT, "server_cpu_us")

    groups = [(workload, text) for workload, text in README_WORKLOADS if (workload, LIMIT) in runs]
    series = [entry for entry in README_SERIES if any(entry[0] == name for _, name in runs)]
    if not groups or not series:
        return True
    script, labels = README_CHART % "cpu-a-request", ""
    with open(os.path.join(folder, "cpu-a-request.dat"), "w") as file:
        for at, (workload, text) in enumerate(groups):
            figures = [ratio(workload, name) for name, _, _ in series]
            file.write('"%s" %s\n' % (text, " ".join(shown(figure, "%.4g") for figure in figures)))
            for i, figure in enumerate(figures):
                if figure and figure > README_TOP:
                    left = at - .5 + (i + 1.5) / (len(series) + 2)
                    labels += ("set label '%.1f' at first %.3f, first %.3f center rotate by 90 offset 0,-1 "
                               "textcolor rgb '#ffffff' front\n" % (figure, left, README_TOP))
    script = script.replace("plot ", labels + "plot ") + ", \\\n     ".join(
        "'cpu-a-request.dat' using %d:xtic(1) title '%s' lc rgb '%s'" % (i + 2, title, colour)
        for i, (_, title, colour) in enumerate(series)) + "\n"
    return bench_report.plot(folder, "cpu-a-request", script, tell)


def publish(folder, tell):
    runs, told_memory = bench_report.read_csv(folder)
    data = {"runs": runs, "memory": told_memory, "ablation": bench_ablation.read(folder), "machine": None}
    if not runs and not data["ablation"]:
        print("bench: nothing was measured in this build folder")
        return 1
    if os.path.exists(os.path.join(folder, "machine.json")):
        with open(os.path.join(folder, "machine.json")) as file:
            data["machine"] = json.load(file)
    for path in DOCUMENTS:
        if not os.path.exists(path):
            continue
        with open(path) as file:
            text = file.read()
        filled = fill(text, data)
        if filled != text:
            with open(path, "w") as file:
                file.write(filled)
            print("bench: %s" % path)
    drawing = os.path.join(folder, "published")
    shutil.rmtree(drawing, ignore_errors=True)
    os.makedirs(drawing)
    names = [name for name in servers_of(runs) if name in IN_CHARTS]
    drawn = bench_report.charts(drawing, runs, told_memory, closed_workloads(runs), names, tell)
    drawn = drawn and readme_chart(drawing, runs, tell)
    os.makedirs(CHARTS, exist_ok=True)
    for chart in glob.glob(os.path.join(drawing, "*.svg")):
        shutil.copy(chart, CHARTS)
        print("bench: %s" % os.path.join(CHARTS, os.path.basename(chart)))
    return 0 if drawn else 1
