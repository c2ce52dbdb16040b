#!/usr/bin/env python3
"""Reads the kinds of faults from the tables of docs/faults.md and writes them as a C header.

usage: fault_kinds.py FAULTS_MD HEADER

fault_kinds[] are those of the column `kinds` in the table of faults, in its order, each once; played_kinds[] are those
of the second table, which the test program plays itself. A table that does not hold together is an error: an S row
without a kind, a kind in a row without S, a name that is none, a test that is not there, a kind that is played and
that no row asks for. (That the other kinds are the world's, and all of the world's, is checked by test_hits.)
"""
import pathlib
import re
import sys

FAULTS = ["fault", "by", "required", "tested in", "kinds"]
PLAYED = ["kind", "what happens"]
TESTS = pathlib.Path(__file__).resolve().parent

errors = []


def table(lines, header):
    """The rows below `header`, each as (line number, cells)."""
    rows = [(number, [cell.strip() for cell in line.strip().strip("|").split("|")])
            for number, line in enumerate(lines, 1) if line.startswith("|")]
    starts = [i for i, row in enumerate(rows) if row[1] == header]
    if len(starts) != 1:
        sys.exit(f"there are {len(starts)} tables with the columns {header}, not one")
    found = []
    for number, cells in rows[starts[0] + 1:]:
        if number != rows[starts[0]][0] + len(found) + 1:
            break
        if len(cells) != len(header):
            errors.append(f"line {number}: {len(cells)} cells, not {len(header)}")
            cells = [""] * len(header)
        found.append((number, cells))
    return found[1:]  # without the rule


def names(number, cell, pattern):
    """What stands in code ticks; nothing else may."""
    found = re.findall(r"`([^`]*)`", cell)
    if re.sub(r"`[^`]*`", "", cell).strip():
        errors.append(f"line {number}: something else than names in code ticks: {cell}")
    for name in found:
        if not re.fullmatch(pattern, name):
            errors.append(f"line {number}: malformed: '{name}'")
    return found


def fault_kinds(rows):
    kinds = []
    for number, (_, by, _, tests, cell) in rows:
        ways = by.split()
        if not ways or not set(ways) <= set("SNKPCU"):
            errors.append(f"line {number}: brought about by '{by}'")
        files = names(number, tests, r"[a-z_]+\.(c|sh)")
        errors.extend(f"line {number}: no test: {file}" for file in files if not (TESTS / file).is_file())
        if set(ways) - {"S"} and not files:
            errors.append(f"line {number}: no test is named")
        found = names(number, cell, r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
        if ("S" in ways) != bool(found):
            errors.append(f"line {number}: {'S names no kind' if 'S' in ways else 'a kind, but not by S'}")
        kinds.extend(found)
    return list(dict.fromkeys(kinds))


def played_kinds(rows, kinds):
    played = [name for number, (cell, _) in rows for name in names(number, cell, r"[a-z][a-z0-9]*(_[a-z0-9]+)*")]
    errors.extend(f"no fault asks for '{name}'" for name in played if name not in kinds)
    errors.extend(f"'{name}' is explained twice" for name in set(played) if played.count(name) > 1)
    return played


def array(name, kinds):
    return f"static const char *const {name}[] = {{\n" + "".join(f'    "{kind}",\n' for kind in kinds) + "};\n"


def main():
    source, header = map(pathlib.Path, sys.argv[1:])
    lines = source.read_text(encoding="utf-8").splitlines()
    kinds = fault_kinds(table(lines, FAULTS))
    played = played_kinds(table(lines, PLAYED), kinds)
    if not kinds or not played:
        errors.append("a table is empty")
    if errors:
        sys.exit("\n".join(f"{source}: {error}" for error in errors))
    header.write_text("/* Made by fault_kinds.py from docs/faults.md. */\n" + array("fault_kinds", kinds) +
                      array("played_kinds", played), encoding="utf-8")


main()
