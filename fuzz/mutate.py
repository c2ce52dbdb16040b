#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Changes proto/frame.c in every small way, and sees that a test or the corpus notices.

    mutate.py BUILD [SUBSTRING]    in the folder BUILD, which is made; only mutants whose description has SUBSTRING

The changes are made from the source text by the rules below, all of them at every place where they fit: relations moved
by one and negated, operators exchanged, constants one off, conditions negated, values returned otherwise, statements
left out. What compiles to the same code as the original is no mutant. Every other one must be killed by the corpus of
fuzz_frame or by a test of the codec (tests/test_frame*.c), or be listed in mutants.txt with the reason why nothing can
tell it from the original. A line there that justifies nothing is an error.

Exit status: 0 each mutant killed or justified, 1 not.
"""
import concurrent.futures
import os
import re
import resource
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
SOURCE = os.path.join(ROOT, "proto", "frame.c")
JUSTIFIED = os.path.join(HERE, "mutants.txt")

CC = os.environ.get("CC", "gcc")
FLAGS = ["-std=c17", "-D_GNU_SOURCE", "-w"] + ["-I" + os.path.join(ROOT, folder) for folder in ("proto", "tests", "fuzz")]
CPU_SECONDS = {"fuzz_frame": 2, "test_frame_misuse": 2}  # 30 for the others
PROGRAMS = {
    "fuzz_frame": (["fuzz/fuzz_frame.c", "fuzz/frame_story.c", "fuzz/replay.c", "tests/frame_trace.c"],
                   ["-Wl,--wrap=malloc", "-Wl,--wrap=calloc", "-Wl,--wrap=realloc"]),
    "test_frame_misuse": (["tests/test_frame_misuse.c"], ["-lcmocka"]),
    "test_frame_reverse": (["tests/test_frame_reverse.c", "tests/frame_trace.c"], ["-lcmocka"]),
    "test_frame_header": (["tests/test_frame_header.c", "tests/frame_trace.c"], ["-lcmocka"]),
    "test_frame": (["tests/test_frame.c", "tests/frame_trace.c"], ["-lcmocka"]),
}

# ---- Where to change what ----

TOKEN = re.compile(r"""
    (?P<skip>\s+|/\*.*?\*/|^\#[^\n]*|"(?:\\.|[^"\\])*")
  | (?P<char>'(?:\\.|[^'\\])+')
  | (?P<number>\d\w*)
  | (?P<name>[A-Za-z_]\w*)
  | (?P<operator><<=|>>=|->|\+\+|--|&&|\|\||<<|>>|[<>=!+*/%&|^-]=|[-+*/%<>=!&|^~?:;,.(){}\[\]])
""", re.VERBOSE | re.DOTALL | re.MULTILINE)

SWAPS = {
    "<": ("<=", ">="), "<=": ("<", ">"), ">": (">=", "<="), ">=": (">", "<"), "==": ("!=",), "!=": ("==",),
    "+": ("-",), "-": ("+",), "*": ("/", "+"), "/": ("*",), "%": ("/",), "+=": ("-=", "="), "-=": ("+=", "="),
    "*=": ("/=",), "/=": ("*=", "%="), "++": ("--",), "--": ("++",), "&&": ("||",), "||": ("&&",), "&": ("|",),
    "|": ("&",), "<<": (">>",), ">>": ("<<",),
}
MACROS = {"FRAME_HEADER_SIZE", "FRAME_PAYLOAD_MAX", "UINT32_MAX", "REASONS"}
ENUMS = [
    ["FRAME_NEED_MORE", "FRAME_READY", "FRAME_BAD"],
    ["FRAME_REASON_NONE", "FRAME_REASON_NOT_DIGIT", "FRAME_REASON_ZERO", "FRAME_REASON_TOO_LONG"],
]
TYPES = {"static", "const", "struct", "enum", "bool", "char", "int", "unsigned", "size_t"}
TYPES |= {"uint%d_t" % bits for bits in (8, 16, 32, 64)}
HEADS = {"if", "while", "for", "switch"}


class Token:
    def __init__(self, match):
        self.kind = match.lastgroup
        self.text = match.group()
        self.start, self.end = match.span()


def tokens_of(text):
    tokens, at = [], 0
    while at < len(text):
        match = TOKEN.match(text, at)
        if not match:
            sys.exit("mutate: cannot read: " + text[at:at + 40])
        if match.lastgroup != "skip":
            tokens.append(Token(match))
        at = match.end()
    return tokens


def closing(tokens, i):
    """The index of the bracket that closes the one at i."""
    pairs = {"(": ")", "{": "}", "[": "]"}
    depth, closes = 0, pairs[tokens[i].text]
    for k in range(i, len(tokens)):
        depth += (tokens[k].text == tokens[i].text) - (tokens[k].text == closes)
        if depth == 0:
            return k
    sys.exit("mutate: a bracket is open to the end")


def regions(tokens):
    """Yields (name, first, last) of each body: of functions, and of tables."""
    i, name = 0, None
    while i < len(tokens):
        text = tokens[i].text
        if text == "static_assert":
            i = closing(tokens, i + 1)
        elif text == "(" and tokens[i - 1].kind == "name":
            name = tokens[i - 1].text
            i = closing(tokens, i)
        elif text == "[" and tokens[i - 1].kind == "name":
            name = tokens[i - 1].text
            i = closing(tokens, i)
        elif text == "{":
            last = closing(tokens, i)
            yield name, i + 1, last
            i = last
        i += 1


def is_binary(tokens, i):
    before = tokens[i - 1]
    return before.kind in ("number", "char") or before.text in (")", "]") or (before.kind == "name" and before.text != "return")


def token_changes(tokens, i):
    """Other texts for one token."""
    token, text = tokens[i], tokens[i].text
    if token.kind == "operator" and text in SWAPS:
        if text in ("-", "+", "*", "&") and not is_binary(tokens, i):
            return
        yield from SWAPS[text]
    elif token.kind == "operator" and text == "!":
        yield ""
    elif token.kind == "number":
        digits = re.match(r"0[xX][0-9a-fA-F]+|\d+", text).group()
        value = int(digits, 0)
        yield str(value + 1) + text[len(digits):]
        if value > 0:
            yield str(value - 1) + text[len(digits):]
    elif token.kind == "char":
        yield "(%s + 1)" % text
        yield "(%s - 1)" % text
    elif text in MACROS:
        yield "(%s + 1)" % text
        yield "(%s - 1)" % text
    for names in ENUMS:
        if text in names:
            yield from (name for name in names if name != text)


def conditions(tokens, first, last):
    """Spans of conditions: of if, while, CHECK and for, and what is left of a question mark back to its beginning."""
    for i in range(first, last):
        if tokens[i].text in ("if", "while", "CHECK"):
            yield i + 2, closing(tokens, i + 1)
        elif tokens[i].text == "for":
            end = closing(tokens, i + 1)
            semicolons = [k for k in range(i, end) if tokens[k].text == ";"]
            if semicolons[1] - semicolons[0] > 1:
                yield semicolons[0] + 1, semicolons[1]
        elif tokens[i].text == "?":
            start, depth = i, 0
            while True:
                before = tokens[start - 1].text
                depth += (before in ")]") - (before in "([")
                if depth < 0 or (depth == 0 and before in ("=", "return", ",", ";", "{", ":", "?")):
                    break
                start -= 1
            yield start, i


def statements(tokens, first, last):
    """Spans of statements that can be left out: no declaration, nothing that holds other statements."""
    start, i = first, first
    while i < last:
        text = tokens[i].text
        if text in HEADS:
            i = start = closing(tokens, i + 1) + 1
            continue
        if text in ("else", "do", "{", "}"):
            start = i + 1
        elif text in "([":
            i = closing(tokens, i)
        elif text == ";":
            if i > start and tokens[start].text not in TYPES:
                yield start, i
            start = i + 1
        i += 1


def squeeze(text):
    return re.sub(r"\s+", " ", text).strip()


def mutants(text):
    """Yields (description, text) of each change. The description names the function, and the line before and after; the
    second of its kind in a function ends with [2]."""
    tokens = tokens_of(text)
    seen, told = set(), {}
    for name, first, last in regions(tokens):
        changes = []
        for i in range(first, last):
            changes += [(tokens[i].start, tokens[i].end, new) for new in token_changes(tokens, i)]
        for a, b in conditions(tokens, first, last):
            start, end = tokens[a].start, tokens[b - 1].end
            changes.append((start, end, "!(%s)" % text[start:end]))
        for a, b in statements(tokens, first, last):
            start, end = tokens[a].start, tokens[b].end
            if tokens[a].text != "return":
                changes.append((start, end, ";"))
            elif b > a + 1:
                value = text[tokens[a + 1].start:tokens[b - 1].end]
                changes += [(start, end, "return !(%s);" % value), (start, end, "return (%s) + 1;" % value)]
        for start, end, new in changes:
            line_start, line_end = text.rfind("\n", 0, start) + 1, text.find("\n", end)
            before = squeeze(text[line_start:line_end])
            after = squeeze(text[line_start:start] + new + text[end:line_end])
            key = (start, end, new)
            if key not in seen:
                seen.add(key)
                description = "%s: %s -> %s" % (name, before, after)
                told[description] = told.get(description, 0) + 1
                if told[description] > 1:
                    description += " [%d]" % told[description]
                yield description, text[:start] + new + text[end:]


# ---- Trying them ----

def run(command, seconds=None):
    limit = (lambda: resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))) if seconds else None
    return subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=limit).returncode


def compile_to(path, source, level):
    return run([CC] + FLAGS + [level, "-c", source, "-o", path]) == 0


def code_of(path):
    """The code without the names of files and lines."""
    with open(path, "rb") as file:
        return file.read()


def prepare(build):
    os.makedirs(build, exist_ok=True)
    objects = {}
    for name, (sources, _) in PROGRAMS.items():
        objects[name] = []
        for source in sources:
            path = os.path.join(build, source.replace("/", "_") + ".o")
            if not compile_to(path, os.path.join(ROOT, source), "-O1"):
                sys.exit("mutate: cannot compile " + source)
            objects[name].append(path)
    return objects


def try_one(build, objects, number, text):
    """Returns what became of it: no code, same, or the name of its killer, or None."""
    folder = os.path.join(build, "m%d" % number)
    os.makedirs(folder, exist_ok=True)
    source, obj = os.path.join(folder, "frame.c"), os.path.join(folder, "frame.o")
    try:
        with open(source, "w") as file:
            file.write(text)
        if not compile_to(obj, source, "-O2"):
            return "does not compile"
        if code_of(obj) == objects["same"]:
            return "same code"
        compile_to(obj, source, "-O0")
        for name, (_, libraries) in PROGRAMS.items():
            program = os.path.join(folder, name)
            if run([CC, "-o", program, obj] + objects[name] + libraries) != 0:
                return "does not compile"
            arguments = [os.path.join(HERE, "corpus", "frame")] if name == "fuzz_frame" else []
            if run([program] + arguments, CPU_SECONDS.get(name, 30)) != 0:
                return name
        return None
    finally:
        for name in os.listdir(folder):
            os.remove(os.path.join(folder, name))
        os.rmdir(folder)


def read_justified():
    """Lines at the margin are descriptions; what is indented below them is the reason."""
    reasons, group, reading = {}, [], True
    with open(JUSTIFIED) as file:
        for line in file:
            if not line.strip() or line.startswith("#"):
                continue
            if line[0].isspace():
                reading = False
                for description in group:
                    reasons[description] = reasons.get(description, "") + squeeze(line) + " "
            else:
                group, reading = (group if reading else []) + [squeeze(line)], True
    if reading and group:
        sys.exit("mutate: no reason is given for: " + group[-1])
    return reasons


def main(arguments):
    if not 1 <= len(arguments) <= 2:
        sys.exit(__doc__)
    build = os.path.abspath(arguments[0])
    with open(SOURCE) as file:
        original = file.read()
    wanted = [(description, text) for description, text in mutants(original)
              if len(arguments) < 2 or arguments[1] in description]
    if not wanted:
        sys.exit("mutate: no mutant is described with: " + " ".join(arguments[1:]))
    objects = prepare(build)
    # Compiled from the same folder depth and name, so that the object differs only where the code does.
    os.makedirs(os.path.join(build, "original"), exist_ok=True)
    path = os.path.join(build, "original", "frame.c")
    with open(path, "w") as file:
        file.write(original)
    compile_to(path[:-1] + "o", path, "-O2")
    objects["same"] = code_of(path[:-1] + "o")
    if try_one(build, dict(objects, same=b""), 0, original) is not None:
        sys.exit("mutate: the tests fail without any change")

    reasons, used = read_justified(), set()
    killed, same, invalid, survivors = {}, 0, 0, []
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        outcomes = pool.map(lambda item: try_one(build, objects, item[0] + 1, item[1][1]), enumerate(wanted))
        for number, ((description, _), outcome) in enumerate(zip(wanted, outcomes)):
            if number % 50 == 0:
                print("mutate: %d of %d" % (number, len(wanted)), file=sys.stderr, flush=True)
            if outcome == "does not compile":
                invalid += 1
            elif outcome == "same code":
                same += 1
            elif outcome:
                killed[outcome] = killed.get(outcome, 0) + 1
            elif description in reasons:
                used.add(description)
                survivors.append(True)
            else:
                survivors.append(False)
                print("not killed: " + description, flush=True)
    unused = set(reasons) - used if len(arguments) < 2 else set()
    for description in sorted(unused):
        print("justifies nothing: " + description)
    print("killed by: " + ", ".join("%s %d" % (name, killed[name]) for name in PROGRAMS if name in killed))
    print("no mutants: %d compile to the same code, %d do not compile" % (same, invalid))
    print("%d mutants, %d killed, %d justified" % (sum(killed.values()) + len(survivors), sum(killed.values()),
                                                  sum(survivors)))
    return 0 if all(survivors) and not unused else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
