#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Runs the fuzz targets with libFuzzer or AFL++, for ./dev fuzz.

    fuzz.py run PROGRAM TARGET WORK [-OPTION=VALUE...]    fuzz, and keep what is learnt in WORK/corpus/TARGET
    fuzz.py afl PROGRAM TARGET WORK SECONDS               the same with AFL++, in WORK/afl-out/TARGET
    fuzz.py minimise PROGRAM TARGET WORK                  bring what is learnt back into fuzz/corpus/TARGET
    fuzz.py canaries SOURCE BUILD [SUBSTRING]             plant each bug of tests/canaries that a target must catch in
                                                          the copy SOURCE that BUILD builds, and see it caught

Exit status: 0 nothing found, 1 a find, or the fuzzer itself failed.
"""
import configparser
import hashlib
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
PROGRESS_SECONDS = 2
CANARY_SECONDS = {"frame": 60, "cli": 60}  # on the clock; where an input is a whole world:
CANARY_SECONDS_WORLD = 240
CANARY_SEEDS = (1, 2, 3)
NOISE = re.compile(r"^#\d+\s+(NEW|REDUCE|RELOAD|pulse)\b")


def say(text):
    print("fuzz: " + text, flush=True)


def seeds(target):
    return os.path.join(HERE, "corpus", target)


def options(target, *sections):
    """What libFuzzer is told about a target: its dictionary, and these sections of TARGET.options."""
    told = []
    dictionary = os.path.join(HERE, target + ".dict")
    if os.path.exists(dictionary):
        told.append("-dict=" + dictionary)
    parser = configparser.ConfigParser()
    parser.read(os.path.join(HERE, target + ".options"))
    for section in sections:
        if parser.has_section(section):
            told += ["-%s=%s" % pair for pair in parser.items(section)]
    return told


def cpu_seconds():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def fuzz(arguments):
    """Shows how it goes on, and returns the exit status and the number of executions."""
    shown = 0
    runs = 0
    # ASan remembers what libFuzzer has freed, which is the copy of each input: 256 MB of them, and out of the caches.
    os.environ.setdefault("ASAN_OPTIONS", "quarantine_size_mb=16")
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, errors="replace") as child:
        for line in child.stdout:
            number = re.match(r"#(\d+)\s", line)
            runs = int(number.group(1)) if number else runs
            if NOISE.match(line):
                if time.monotonic() - shown < PROGRESS_SECONDS:
                    continue
                shown = time.monotonic()
            if not line.startswith(("stat::", "###### ", '"')):
                print(line, end="", flush=True)
        status = child.wait()
    return status, runs


def run(program, target, work, more):
    corpus = os.path.join(work, "corpus", target)
    crashes = os.path.join(work, "crashes")
    for folder in (corpus, crashes):
        os.makedirs(folder, exist_ok=True)
    before = set(os.listdir(crashes))
    folders = [folder for folder in (corpus, seeds(target)) if os.path.isdir(folder)]
    start, cpu = time.monotonic(), cpu_seconds()
    status, runs = fuzz([program, "-artifact_prefix=%s/%s-" % (crashes, target)] + options(target, "libfuzzer") + more + folders)
    seconds, cpu = time.monotonic() - start, cpu_seconds() - cpu
    found = sorted(set(os.listdir(crashes)) - before)
    verdict = "exit status %d" % status if status else "clean"
    say("%s: %d executions in %.0f s, %.0f/s (%.0f for each second of CPU), %d inputs in the corpus: %s"
        % (target, runs, seconds, runs / max(seconds, 1e-3), runs / max(cpu, 1e-3), len(os.listdir(corpus)), verdict))
    for name in found:
        path = os.path.join(crashes, name)
        say("found: %s\n      replay it with: %s %s" % (path, program, path))
    return 0 if status == 0 else 1


def afl(program, target, work, seconds):
    """AFL++ keeps its corpus in a form of its own, and goes on with it."""
    out = os.path.join(work, "afl-out", target)
    dictionary = os.path.join(HERE, target + ".dict")
    os.makedirs(out, exist_ok=True)
    settings = {"AFL_NO_UI": "1", "AFL_AUTORESUME": "1", "AFL_SKIP_CPUFREQ": "1", "AFL_NO_AFFINITY": "1",
                "AFL_I_DONT_CARE_ABOUT_MISSING_CRASHES": "1"}
    command = ["afl-fuzz", "-V", seconds, "-i", seeds(target), "-o", out]
    command += ["-x", dictionary] if os.path.exists(dictionary) else []
    status = subprocess.run(command + ["--", program], env=dict(os.environ, **settings)).returncode
    stats = {}
    try:
        with open(os.path.join(out, "default", "fuzzer_stats")) as file:
            stats = {name.strip(): value.strip() for name, value in (line.split(":", 1) for line in file if ":" in line)}
    except FileNotFoundError:
        pass
    crashes = os.path.join(out, "default", "crashes")
    found = sorted(name for name in (os.listdir(crashes) if os.path.isdir(crashes) else []) if name.startswith("id"))
    say("%s: AFL++: %s executions in all, %s/s, %s inputs: %s" % (
        target, stats.get("execs_done"), stats.get("execs_per_sec"), stats.get("corpus_count"),
        "clean" if status == 0 and not found else "%d finds, exit status %d" % (len(found), status)))
    for name in found:
        path = os.path.join(crashes, name)
        say("found: %s\n      replay it with: ./dev fuzz replay %s %s" % (path, target, os.path.abspath(path)))
    return 1 if status != 0 or found else 0


def merge(program, target, sources):
    """The inputs that libFuzzer chooses among those of the folders `sources`, by digest; None if it failed.

    It starts itself again through a shell and quotes nothing, and when that fails it has chosen nothing and is content.
    So it works in a folder of its own, in which everything has a name that a shell leaves alone.
    """
    wanted = {}
    with tempfile.TemporaryDirectory() as folder:
        named = {"fuzz": program}
        named.update(("source%d" % number, source) for number, source in enumerate(sources))
        for name, path in named.items():
            os.symlink(os.path.abspath(path), os.path.join(folder, name))
        chosen = os.path.join(folder, "chosen")
        os.mkdir(chosen)
        told = [option for option in options(target, "libfuzzer", "minimise") if not option.startswith("-dict=")]
        command = ["./fuzz", "-merge=1"] + told + ["chosen"] + sorted(named.keys() - {"fuzz"})
        status = subprocess.run(command, cwd=folder, env=dict(os.environ, TMPDIR="."), stdout=subprocess.DEVNULL,
                                stderr=subprocess.DEVNULL).returncode
        if status != 0:
            say("%s: the merge failed with exit status %d" % (target, status))
            return None
        for name in os.listdir(chosen):
            with open(os.path.join(chosen, name), "rb") as file:
                data = file.read()
            wanted[hashlib.sha1(data).hexdigest()[:12]] = data
    return wanted


def minimise(program, target, work):
    """A set that covers the same is chosen anew, small files first; what is no longer needed goes."""
    sources = [source for source in (seeds(target), os.path.join(work, "corpus", target)) if os.path.isdir(source)]
    wanted = merge(program, target, sources)
    if wanted is None:
        return 1
    if not wanted and any(os.listdir(source) for source in sources):
        say("%s: the merge chose nothing of what there is, which is left as it was" % target)
        return 1
    os.makedirs(seeds(target), exist_ok=True)
    kept = {}
    for name in os.listdir(seeds(target)):
        path = os.path.join(seeds(target), name)
        with open(path, "rb") as file:
            digest = hashlib.sha1(file.read()).hexdigest()[:12]
        # A name that says something was given by hand, to an input that is there for a reason.
        if digest in wanted or not re.fullmatch("[0-9a-f]{12}", name):
            kept[digest] = name
        else:
            os.remove(path)
    for digest in sorted(set(wanted) - set(kept)):
        with open(os.path.join(seeds(target), digest), "wb") as file:
            file.write(wanted[digest])
    sizes = [os.path.getsize(os.path.join(seeds(target), name)) for name in os.listdir(seeds(target))]
    say("%s: %d inputs in the tree, %d bytes" % (target, len(sizes), sum(sizes)))
    return 0


def caught(program, target, pristine, seed):
    """Fuzzes from nothing: no corpus, no dictionary. Returns the seconds it took, or None."""
    with tempfile.TemporaryDirectory() as folder:
        told = [option for option in options(target, "libfuzzer") if not option.startswith("-dict=")]
        most = CANARY_SECONDS.get(target, CANARY_SECONDS_WORLD)
        limits = ["-seed=%d" % seed, "-max_total_time=%d" % most, "-artifact_prefix=%s/" % folder]
        start = time.monotonic()
        status = subprocess.run([program] + told + limits, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode
        seconds = time.monotonic() - start
        finds = [os.path.join(folder, name) for name in os.listdir(folder)]
        if status == 0 or not finds:
            return None
        # It is the bug that was found, if the same input is nothing without it.
        quiet = subprocess.run([pristine] + finds, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0
        return seconds if quiet else None


def canaries(source, build, part=""):
    missed = 0
    pristine = {}
    folder = os.path.join(source, "tests", "canaries")
    print("%-28s%s" % ("", "".join("%10s" % ("seed %d" % seed) for seed in CANARY_SEEDS)), flush=True)
    for name in sorted(os.listdir(folder)):
        with open(os.path.join(folder, name)) as file:
            catcher = re.search(r"^Caught by: fuzz/fuzz_(\w+)$", file.read(), re.MULTILINE)
        if not catcher or part not in name:
            continue
        target = catcher.group(1)
        program = os.path.join(build, "fuzz", "fuzz_" + target)
        ninja = ["ninja", "-C", build, "fuzz/fuzz_" + target]
        patch = ["patch", "-p1", "-s", "-d", source, "-i", os.path.join("tests", "canaries", name)]
        if target not in pristine:
            subprocess.run(ninja, check=True, stdout=subprocess.DEVNULL)
            pristine[target] = shutil.copy(program, program + "_pristine")
        subprocess.run(patch, check=True)
        try:
            subprocess.run(ninja, check=True, stdout=subprocess.DEVNULL)
            seconds = [caught(program, target, pristine[target], seed) for seed in CANARY_SEEDS]
        finally:
            subprocess.run(patch + ["-R"], check=True)
        missed += seconds.count(None)
        shown = ["missed" if took is None else "%.1f s" % took for took in seconds]
        print("%-28s%s" % (name, "".join("%10s" % text for text in shown)), flush=True)
    if not pristine:
        sys.exit("no canary for a fuzz target in " + folder)
    say("canaries: " + ("%d times missed" % missed if missed else "all caught"))
    return 1 if missed else 0


def main(arguments):
    if len(arguments) >= 4 and arguments[0] == "run":
        return run(arguments[1], arguments[2], arguments[3], arguments[4:])
    if len(arguments) == 5 and arguments[0] == "afl":
        return afl(*arguments[1:])
    if len(arguments) == 4 and arguments[0] == "minimise":
        return minimise(*arguments[1:])
    if 3 <= len(arguments) <= 4 and arguments[0] == "canaries":
        return canaries(os.path.abspath(arguments[1]), os.path.abspath(arguments[2]), *arguments[3:])
    sys.exit(__doc__)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
