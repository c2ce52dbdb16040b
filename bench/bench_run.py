# SPDX-License-Identifier: MIT
"""Servers, workloads, and one run of the one under the other."""
import json
import os
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time

# name: what it is
SERVERS = {
    "blocking": "a thread for each connection",
    "nonblocking": "busy polling over all connections",
    "select": "select",
    "poll": "poll",
    "epoll_lt": "epoll, level-triggered",
    "epoll_et": "epoll, edge-triggered",
    "epoll_bulk": "epoll, received into one big buffer",
    "signal": "real-time signals (F_SETSIG)",
    "uring": "io_uring by hand: the limit",
    "proactor_uring": "this library on io_uring",
    "proactor_uring_2": "this library on io_uring, two threads",
    "proactor_uring_spin": "this library on io_uring, spinning before it sleeps",
    "proactor_epoll": "this library on epoll",
    "proactor_epoll_2": "this library on epoll, two threads",
    "uv": "libuv",
    "event": "libevent, bare events",
    "event_buffer": "libevent, bufferevents",
    "ev": "libev",
    "asio_epoll": "Asio on epoll",
    "asio_uring": "Asio on io_uring",
}
LIMIT = "uring"
PEERS = ("uv", "event", "ev", "asio_epoll", "asio_uring")

# name: (what it is, the load generator's arguments)
WORKLOADS = {
    "W1": ("64 connections x 64 B", "--connections 64"),
    "W2": ("64 connections x 16 in flight x 64 B", "--connections 64 --depth 16"),
    "W3": ("1 connection x 64 B", "--connections 1"),
    "W4": ("1,000 connections x 64 B", "--connections 1000"),
    "W5": ("16 connections x 64 KiB", "--connections 16 --size 65536"),
    "W6": ("8 connections x 4 in flight x 99,999 B", "--connections 8 --depth 4 --size 99999"),
    "W7": ("connect, ask, close; 64 at a time", "--connections 64 --churn"),
    "W8": ("10,000 idle and 64 active connections x 64 B", "--connections 64 --idle 10000"),
    "W10a": ("open loop, 50,000/s, 64 connections x 64 B", "--connections 64 --rate 50000"),
    "W10b": ("open loop, 150,000/s, 64 connections x 64 B", "--connections 64 --rate 150000"),
    "W10c": ("open loop, 240,000/s, 64 connections x 64 B", "--connections 64 --rate 240000"),
    "W10d": ("open loop, 10,000/s, 64 connections, mixed sizes", "--connections 64 --rate 10000 --mix"),
}
IDLE = 19000  # connections of W9
IDLE_TIMES = 4
START_SECONDS = 10
LOAD_SECONDS = 60  # the longest run, connections and all
TRACED_SECONDS = 15  # the longest under strace, which many threads make endless


class Failed(Exception):
    """A run that gives no figure; its text says why."""


def cores(first, count):
    """What taskset is told: `count` cores from `first` on, as far as the machine has them."""
    have = os.cpu_count() or 1
    return ",".join(str((first + i) % have) for i in range(count))


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def rss_bytes(pid, name="VmRSS"):
    with open("/proc/%d/status" % pid) as file:
        found = re.search(r"^%s:\s+(\d+) kB" % name, file.read(), re.MULTILINE)
    return int(found.group(1)) * 1024 if found else 0


class Bench:
    """The programs of one build folder."""

    def __init__(self, build):
        self.build = build
        self.network = None  # what is measured on, in words
        self.load = self.path("load")
        self.reversed = os.path.join(build, "proto", "reversed")
        self.auto = self.find_auto()

    def find_auto(self):
        """The name of the server that `--backend auto` is on this machine."""
        command = [self.reversed, "--listen", "127.0.0.1:0", "--backend", "auto"]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
            line = server.stderr.readline()
            server.terminate()
            server.stderr.read()
        return "proactor_uring" if "io_uring," in line else "proactor_epoll"

    def servers(self):
        """Those that can be run here."""
        names = []
        for name in SERVERS:
            program = self.reversed if name.startswith("proactor") else self.path("serve_" + name)
            if os.path.exists(program):
                names.append(name)
        return names

    def path(self, program):
        return os.path.join(self.build, "bench", program)

    def command(self, name, port):
        """A name may have options behind it: `uring --without bulk`."""
        if not name.startswith("proactor"):
            program, *options = name.split()
            return [self.path("serve_" + program), str(port)] + options
        name, *options = name.split()
        backend = "epoll" if "epoll" in name else "io_uring"
        command = [self.reversed, "--listen", "0.0.0.0:%d" % port, "--backend", backend, "--log-level", "error",
                   "--idle-timeout", "3600s", "--threads", "2" if name.endswith("_2") else "1"]
        return command + (["--spin", "100us"] if name.endswith("_spin") else []) + options


class Server:
    """A server that runs, on core 0, or on 0 and 1 if it has two threads."""

    def __init__(self, bench, name, wrapper=(), environment=None):
        self.name = name
        self.load = bench.load
        self.port = free_port()
        pinned = ["taskset", "-c", cores(0, 2 if name.endswith("_2") else 1)]
        self.errors = tempfile.TemporaryFile()
        command = pinned + list(wrapper) + bench.command(name, self.port)
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.errors, stderr=self.errors,
                                        env=dict(os.environ, **(environment or {})))
        self.pid = self.process.pid
        self.wrapped = bool(wrapper)
        self.wait_for_port(START_SECONDS * (6 if wrapper else 1))

    def wait_for_port(self, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.process.poll() is not None:
                break
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.01)
        self.process.kill()
        self.process.wait()
        raise Failed("it does not start: " + self.said())

    def wait_for_end(self):
        """valgrind looks for signals when the program has run a while, and never while it waits for a ring. So it is
        given something to do; what that adds to the counts is the same in each run."""
        try:
            if self.wrapped:
                subprocess.run([self.load, str(self.port), "--quiet", "--seconds", "10", "--warmup", "0"],
                               stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def said(self):
        self.errors.seek(0)
        lines = self.errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "nothing said"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        died = self.process.poll()
        if died is None:
            self.process.send_signal(signal.SIGTERM)
            self.wait_for_end()
        status = self.process.returncode
        said = self.said()
        self.errors.close()
        if died is not None or status != 0:
            raise Failed("%s ended with status %d: %s" % (self.name, status, said))


def run_load(bench, server, arguments, limit=LOAD_SECONDS):
    """Runs the load generator on core 1 against a server and returns what it tells."""
    command = ["taskset", "-c", cores(1, 1), bench.load, str(server.port), "--server", str(server.pid), "--quiet"]
    try:
        done = subprocess.run(command + arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, timeout=limit)
    except subprocess.TimeoutExpired:
        raise Failed("not done in %d s" % limit) from None
    if done.returncode != 0:
        raise Failed((done.stderr.strip().splitlines() or ["the load generator failed"])[-1])
    return json.loads(done.stdout)


def correct(bench, name, seed):
    """None, or what is wrong with a server."""
    try:
        with Server(bench, name) as server:
            done = subprocess.run([bench.load, str(server.port), "--check", "--seed", str(seed)],
                                  stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            return done.stderr.strip() or "the check failed" if done.returncode else None
    except Failed as failure:
        return str(failure)


# lie of serve_liar: whether the load generator can notice it under a workload of one request after the other
LIES = {"none": False, "flip": True, "lose": False, "cut": False, "extra": False, "reset": False}


def canaries(bench):
    """What the load generator did not notice of a server that lies, or noticed of one that does not."""
    missed = []
    for lie, under_load in LIES.items():
        name = "liar " + lie
        wrong = correct(bench, name, 1)
        if (wrong is None) != (lie == "none"):
            missed.append("%s: check: %s" % (lie, wrong or "nothing noticed"))
        for arguments in ("", "--churn", "--size 99999") if under_load else ():
            try:
                with Server(bench, name) as server:
                    run_load(bench, server, arguments.split() + ["--seconds", "0.2"])
                missed.append("%s: load %s: nothing noticed" % (lie, arguments))
            except Failed as failure:
                if str(failure) != "load: a wrong answer":
                    missed.append("%s: load %s: %s" % (lie, arguments, failure))
    return missed


def measure(bench, name, workload, seconds, warmup, more=()):
    """One run: what the load generator tells, and the server's memory after it."""
    _, arguments = WORKLOADS[workload]
    with Server(bench, name) as server:
        told = run_load(bench, server, arguments.split() + ["--seconds", str(seconds), "--warmup", str(warmup)]
                        + list(more))
        told["rss_mb"] = rss_bytes(server.pid) / 1e6
        told["peak_mb"] = rss_bytes(server.pid, "VmHWM") / 1e6
    told["total_cpu_us"] = told["server_cpu_us"] + told["load_cpu_us"]
    return told


def syscalls(bench, name, workload, seconds):
    """System calls a request: by the tracepoint, or else by strace, or None."""
    told = measure(bench, name, workload, seconds, 0.2, ["--syscalls"])
    if told["syscalls"] is not None or not shutil.which("strace"):
        return told["syscalls"]
    return traced_syscalls(bench, name, workload, seconds)


def traced_syscalls(bench, name, workload, seconds):
    """System calls a request, by strace, those that make the connections among them."""
    with tempfile.NamedTemporaryFile("r") as table, Server(bench, name) as server:
        tracer = subprocess.Popen(["strace", "-f", "-c", "-o", table.name, "-p", str(server.pid)],
                                  stderr=subprocess.DEVNULL)
        time.sleep(0.3)
        try:
            told = run_load(bench, server, WORKLOADS[workload][1].split() + ["--seconds", str(seconds)],
                            TRACED_SECONDS)
            tracer.send_signal(signal.SIGINT)
        except Failed:
            tracer.kill()
            raise
        finally:
            tracer.wait()
        found = re.search(r"^\S+\s+\S+\s+(?:\S+\s+)?(\d+)\s+(?:\d+\s+)?total$", table.read(), re.MULTILINE)
    return int(found.group(1)) / max(told["answered"], 1) if found else None


def instructions(bench, name, workload, seconds):
    """User-space instructions a request, by callgrind: the difference of a long and a short run, so that the start of
    the program is in neither."""
    counts = []
    for length in (seconds, 4 * seconds):
        with tempfile.TemporaryDirectory() as folder:
            out = os.path.join(folder, "callgrind.out")
            wrapper = ["valgrind", "--quiet", "--tool=callgrind", "--callgrind-out-file=" + out]
            with Server(bench, name, wrapper) as server:
                told = run_load(bench, server, WORKLOADS[workload][1].split() + ["--seconds", str(length),
                                                                                "--warmup", "0"])
            with open(out) as file:
                found = re.search(r"^(?:summary|totals): (\d+)", file.read(), re.MULTILINE)
        if not found:
            raise Failed("callgrind left no sum")
        counts.append((int(found.group(1)), told["answered"]))
    return (counts[1][0] - counts[0][0]) / max(counts[1][1] - counts[0][1], 1)


class Held:
    """Idle connections that stand for as long as this is in use."""

    def __init__(self, bench, server, count):
        self.process = subprocess.Popen([bench.load, str(server.port), "--idle", str(count), "--connections", "0",
                                         "--hold", "--quiet"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE)
        ready, _, _ = select.select([self.process.stdout], [], [], 120)
        if not ready or not self.process.stdout.readline():
            self.process.kill()
            raise Failed((self.process.communicate()[1].decode().strip().splitlines() or ["no connections"])[-1])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.communicate()


def idle_memory(bench, name, count):
    """Bytes an idle connection costs: of the allocator, and resident; and what the server has without any. Connections
    that ask many at a time make a server take buffers for as many, idle or not, and the more the faster they happen to
    come. So they come several times, and the time counts that took the least beside them. Pages stay when connections
    go, a table's above all, so what is resident counts from when there were none.
    """
    with tempfile.NamedTemporaryFile() as counter:
        counter.write(bytes(8))
        counter.flush()

        def allocated():
            counter.seek(0)
            return struct.unpack("q", counter.read(8))[0]

        environment = {"LD_PRELOAD": os.path.abspath(bench.path("count_memory.so")),
                       "BENCH_MEMORY": counter.name}
        with Server(bench, name, environment=environment) as server:
            with Held(bench, server, 64):
                pass
            time.sleep(0.3)
            fixed, fixed_rss = allocated(), rss_bytes(server.pid)
            times = []
            for i in range(IDLE_TIMES):
                if i:
                    time.sleep(3)
                base = allocated()
                with Held(bench, server, count):
                    time.sleep(0.3)
                    times.append(((allocated() - base) / count, (rss_bytes(server.pid) - fixed_rss) / count))
    told, told_rss = min(times)
    return {"bytes": told, "rss_bytes": told_rss, "fixed_mb": fixed_rss / 1e6, "fixed_allocated_mb": fixed / 1e6}


def burst_memory(bench, name, seconds):
    """Resident megabytes before a burst of large frames, at its height, and a while after it."""
    with Server(bench, name) as server:
        run_load(bench, server, ["--seconds", "0.2", "--warmup", "0"])
        before = rss_bytes(server.pid)
        run_load(bench, server, WORKLOADS["W6"][1].split() + ["--seconds", str(seconds)])
        height = rss_bytes(server.pid, "VmHWM")
        time.sleep(3)
        return {"before_mb": before / 1e6, "height_mb": height / 1e6, "after_mb": rss_bytes(server.pid) / 1e6}


MICRO_PARTS = ("nop", "timer", "timers", "post", "cancel", "pool")


def micro_once(bench, count):
    """Runs each part both ways, `count` times and unmeasured."""
    for part in MICRO_PARTS:
        for side in ("library", "bare"):
            done = subprocess.run([bench.path("micro"), part, side, str(count)],
                                  stderr=subprocess.PIPE, text=True)
            if done.returncode != 0:
                raise Failed("micro %s %s: %s" % (part, side, done.stderr.strip()))


def micro(bench):
    """What bench/micro tells: {part: {name: figure}}."""
    done = subprocess.run(["taskset", "-c", cores(0, 2), bench.path("micro")], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise Failed("micro: " + (done.stderr.strip().splitlines() or ["failed"])[-1])
    return {told.pop("part"): told for told in map(json.loads, done.stdout.splitlines())}
