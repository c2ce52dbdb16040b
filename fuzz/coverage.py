#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What the corpus of fuzz_frame reaches of proto/frame.c, for ./dev coverage.

    coverage.py BUILD    a build with -Db_coverage=true, in which the tests have been run

A branch that makes an assertion fail is taken by misuse only, so by no corpus: of an assertion, only the branches by
which it holds are asked of the corpus. The others are asked of test_frame_misuse. What neither reaches is printed: an
assertion of what the parser itself has just done can be tripped by a bug only.

Exit status: 0 all of it is reached, 1 not.
"""
import glob
import json
import os
import re
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
SOURCE = os.path.join("proto", "frame.c")
POSTCONDITION = re.compile(r"CHECK\(status != FRAME_")


def lines_of(build, folder):
    """{number: (count, [count of each branch])} of the source, as that folder's objects were run."""
    command = ["gcovr", "--root", ".", "--filter", re.escape(SOURCE) + "$", "--json", "-", "--object-directory", build, folder]
    report = subprocess.run(command, check=True, stdout=subprocess.PIPE, cwd=ROOT, text=True).stdout
    file, = json.loads(report)["files"]
    return {line["line_number"]: (line["count"], [branch["count"] for branch in line["branches"]])
            for line in file["lines"] if not line.get("gcovr/noncode")}


def percent(part, whole):
    return "%.1f %%" % (100 * part / whole)


def main(arguments):
    if len(arguments) != 1:
        sys.exit(__doc__)
    build = os.path.abspath(arguments[0])
    # The code under test is an archive of its own in fuzz/, and a part of the program in tests/.
    ours = os.path.join(build, "fuzz", "libfuzzed_frame.a.p")
    for path in glob.glob(os.path.join(ours, "*.gcda")):
        os.remove(path)
    subprocess.run([os.path.join(build, "fuzz", "fuzz_frame"), os.path.join(HERE, "corpus", "frame")], check=True)
    corpus, misuse = lines_of(build, ours), lines_of(build, os.path.join(build, "tests", "test_frame_misuse.p"))
    with open(os.path.join(ROOT, SOURCE)) as file:
        text = dict(enumerate(file.read().split("\n"), 1))

    missed, asked, reached, of_misuse, by_misuse, never = [], 0, 0, 0, 0, []
    for number, (count, branches) in sorted(corpus.items()):
        if count == 0:
            missed.append("%s:%d: not reached: %s" % (SOURCE, number, text[number].strip()))
        assertion = text[number].lstrip().startswith("CHECK(")
        # a failure for each condition that must hold by itself
        failures = 1 + text[number].count("&&") if assertion else 0
        not_taken = [i for i, taken in enumerate(branches) if not taken]
        asked += len(branches) - (min(len(not_taken), failures))
        reached += len(branches) - len(not_taken)
        if len(not_taken) > failures:
            missed.append("%s:%d: a branch is not taken: %s" % (SOURCE, number, text[number].strip()))
        elif not_taken:
            of_misuse += len(not_taken)
            by_misuse += sum(misuse[number][1][i] > 0 for i in not_taken)
            if not all(misuse[number][1][i] for i in not_taken):
                never.append(number)

    lines_reached = sum(count > 0 for count, _ in corpus.values())
    print("frame.c by its corpus: lines %s (%d), branches %s (%d)"
          % (percent(lines_reached, len(corpus)), len(corpus), percent(reached, asked), asked))
    print("frame.c by its misuse: %d of %d branches that fail an assertion" % (by_misuse, of_misuse))
    for number in never:
        print("    only a bug fails line %d: %s" % (number, text[number].strip()))
        if not POSTCONDITION.search(text[number]):
            missed.append("%s:%d: no test fails this assertion" % (SOURCE, number))
    print("\n".join(missed) + "\n" if missed else "", end="")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
