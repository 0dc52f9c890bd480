# SPDX-License-Identifier: GPL-2.0
"""Measures kernels by tools/bench, compares them, and prints the tables."""

import bisect
import collections
import fnmatch
import glob
import json
import os
import re
import subprocess
import sys

from vmlean import env
from vmlean.env import BUILD, PATCHES, TOP, die

MODULES = 0xffffffffc0000000    # where the kernel puts them


def call(*command):
    rc = subprocess.run(command, check=False).returncode
    if rc:
        sys.exit(rc)


def prepare(variant, name, *options):
    """Kernel, vmbench.ko and image of a variant; its objects are in out/NAME."""
    out = f"{BUILD}/out/{name}"
    call(f"{TOP}/scripts/build", variant, "--out", out, *options)
    log = f"{BUILD}/log/vmbench-{name}.log"
    with open(log, "w", encoding="utf-8") as f:
        rc = subprocess.run(["make", "-C", f"{TOP}/tools/bench", f"O={out}/vmbench",
                             f"KDIR={out}", "module"], stdout=f, stderr=f, check=False).returncode
    if rc:
        die(f"vmbench.ko does not build for {name}", f"see {log}")
    call(f"{TOP}/scripts/image", name)


# Boots of each kernel: plan, CPUs, of which one runs. The pools that keep test_vmalloc
# away from what the series changes need a second one.
BOOTS = (("bench", 1), ("bench-smp", 2))

# The kernels whose fork copies the names of VMAs, as before they were counted:
# flags for the objects in which stock and the series do that, one more plan.
STRDUP = [word for obj in ("vma_init", "mmap") for word in
          ("--make", f"CFLAGS_{obj}.o=-include {TOP}/tools/bench/kernel/strdup.h")]
STRDUP_BOOTS = (("bench-strdup", 1),)


# What vmlean.ko counts, and stock cannot: on bases with the topic.
COUNTED_BOOTS = (("bench-rmap", 1),) if os.path.isdir(f"{PATCHES}/rmap") else ()


def measure(name, icount, boots=BOOTS):
    """{row: (unit, value)} of one kernel."""
    rows = {}
    for plan, cpus in boots:
        call(f"{TOP}/scripts/boot", name, plan, "--cpus", str(cpus), "--name", f"{plan}-{name}",
             *(["--icount"] if icount else ["--append", "nokaslr norandmaps"]))
        with open(f"{BUILD}/results/{plan}-{name}/results.json", encoding="utf-8") as f:
            rows |= {d["name"]: (d["unit"], d["value"]) for d in json.load(f)["data"]}
    if icount and any(unit == "cycles" for unit, _ in rows.values()):
        die("the guest's clock does not count instructions", "is this QEMU's -icount?")
    return rows


CYCLES = "modelled cycles"    # not in short tables

# What a row of the vmap allocator is measured with, beside stock: a suffix of its name,
# and the head of a column.
SETTINGS = (("", "cache"), ("/low", "low area"), ("/both", "both"))


def native(*command):
    """[row] of the kernel's functions in user space, each a line: name, stock, patched; or
    stock and then what each of SETTINGS makes of it."""
    out = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if out.returncode:
        sys.exit(out.returncode)
    rows = []
    for line in out.stdout.splitlines():
        name, stock, *patched = line.split()
        unit = "nodes" if name.startswith("vmap_visits/") else \
            "misses" if name.startswith("dup_misses/") else \
            CYCLES if name.endswith("/cycles") else "instructions"
        for (suffix, _), value in zip(SETTINGS, patched):
            rows.append({"name": name + suffix, "unit": unit, "stock": float(stock),
                         "patched": float(value), "ratio": ratio(float(stock), float(value))})
    return rows


def about(names, icount):
    """What the figures hold for, in one line."""
    with open(f"{BUILD}/out/{names[0]}/.config", encoding="utf-8") as f:
        config = dict(line.rstrip().split("=", 1) for line in f if line.startswith("CONFIG_"))
    qemu = subprocess.run(["qemu-system-x86_64", "--version"], capture_output=True, text=True,
                          check=True).stdout.split()[3]
    with open(f"{BUILD}/out/{names[0]}/include/config/kernel.release", encoding="utf-8") as f:
        release = f.read().split("-")[0].strip()
    return {
        "kernel": release, "compiler": config["CONFIG_CC_VERSION_TEXT"].strip('"'),
        "accel": f"QEMU {qemu}, " + ("TCG -icount shift=0: exact instructions" if icount
                                     else "KVM: cycles of the TSC, not exact"),
        "config": "tinyconfig + tools/testing/kernel/base.config (+ vmlean.config), one CPU",
    }


def ratio(stock, patched):
    """None where there is nothing to compare with."""
    return round(patched / stock, 4) if stock else None


def limits(path):
    """[(pattern, column, at most)]; None where anything will do."""
    return [(pattern, column, float(most)) if most != "-" else (pattern, None, None)
            for pattern, column, most in env.rows(path)]


LIMITS = limits(f"{PATCHES}/limits")


def limit(row):
    """(column, at most) for a row; (None, None) if nothing limits it."""
    return next(((column, most) for pattern, column, most in LIMITS
                 if fnmatch.fnmatchcase(row["name"], pattern)), (None, None))


def reached(row, by):
    """What the limit of a row is about; None: nothing to compare. by: {name: row}"""
    column, _ = limit(row)
    if column in row:
        return row[column]
    return ratio(by[column]["patched"], row["patched"]) if column in by else None


def misses(row, by):
    value = reached(row, by)
    return value is not None and value > limit(row)[1]


def number(value):
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 1000 else f"{value:,.1f}"


# A row that is slower than this is marked in the table.
WORST = 1.005


def print_table(rows, facts):
    for key, text in facts.items():
        print(f"        {key + ':':9} {text}")
    print(f"{'row':28} {'stock':>12} {'patched':>12} {'ratio':>8}")
    for row in rows:
        slow = row["ratio"] is not None and row["ratio"] > WORST
        print(f"{row['name']:28} {number(row['stock']):>12} {number(row['patched']):>12} "
              f"{'-' if row['ratio'] is None else format(row['ratio'], '.3f'):>8}"
              + ("  <- slower" if slow else "")
              + (f"  ({row['unit']})" if row["unit"] != rows[0]["unit"] else ""))


def cells(row):
    if not row:
        return "| | | "     # not measured there
    return (f"| {number(row['stock'])} | {number(row['patched'])} "
            f"| {'–' if row['ratio'] is None else format(row['ratio'], '.3f')} ")


# Rows that are set in tables of their own.
VMAP = ("test_vmalloc/", "vmap_visits/", "vmap_alloc/", "vmap_free/")
NAMES = ("prctl_name/", "fork64k/", "dup_misses/", "anon_name_objects/")
GUARDS = ("guard_objects/", "guard_bytes/", "guard_install/", "fork_guard/", "first_fault/")
RMAP = ("rmap_visits/", "rmap_walk/", "anon_vma_check/")


def with_units(title, prefixes, rows):
    """A table whose rows are of several units."""
    return ["", f"| {title} | unit | stock | patched | ratio |", "|---|---|---:|---:|---:|"] + [
        f"| `{row['name']}` | {row['unit']} {cells(row)}|"
        for prefix in prefixes for row in rows if row["name"].startswith(prefix)]


def by_setting(prefix, by):
    """A table of the rows with a prefix: stock, then each of SETTINGS that was measured."""
    names = [name for name in by if name.startswith(prefix) and not name.endswith("/cycles")
             and not name.endswith(tuple(suffix for suffix, _ in SETTINGS[1:]))]
    if not names:
        return []
    heads = [head for suffix, head in SETTINGS if names[0] + suffix in by]
    lines = ["", f"| {prefix[:-1]}, {by[names[0]]['unit']} | stock | {' | '.join(heads)} |",
             "|---|---:|" + "---:|" * len(heads)]
    for name in names:
        values = [by[name]["stock"]] + [by[name + suffix]["patched"] for suffix, _ in SETTINGS
                                        if name + suffix in by]
        lines.append(f"| `{name[len(prefix):]}` | {' | '.join(map(number, values))} |")
    return lines


def tables(rows, facts):
    """Lines of Markdown. A line for each row, its cgroups side by side; then those that
    have none."""
    by, unit = {row["name"]: row for row in rows}, rows[0]["unit"]
    lines = [f"| {unit} | root: stock | patched | ratio | memcg: stock | patched | ratio |",
             "|---|---:|---:|---:|---:|---:|---:|"]
    lines += [f"| `{name[:-5]}` {cells(row)}{cells(by.get(name[:-5] + '/memcg'))}|"
              for name, row in by.items() if name.endswith("/root")]
    lines += ["", f"| {unit} | stock | patched | ratio |", "|---|---:|---:|---:|"]
    lines += [f"| `{name}` {cells(row)}|" for name, row in by.items()
              if not name.endswith(("/root", "/memcg"))
              and not name.startswith(VMAP + NAMES + GUARDS + RMAP)]
    lines += with_units("names of VMAs", NAMES, rows) + with_units("guard regions", GUARDS, rows)
    lines += with_units("the reverse map", RMAP, rows)
    lines += ["", f"| {unit} | pools: stock | patched | ratio | no pools (`/up`): stock | patched "
              "| ratio |", "|---|---:|---:|---:|---:|---:|---:|"]
    lines += [f"| `{name[:-3]}` {cells(by.get(name[:-3]))}{cells(row)}|" for name, row in by.items()
              if name.startswith(VMAP[0]) and name.endswith("/up")]
    for prefix in VMAP[1:]:
        lines += by_setting(prefix, by)
    lines += ["", "; ".join(facts[k] for k in ("kernel", "accel", "compiler", "config")) + "."]
    return lines


# The rows that README.md shows.
SHORT = ("vma_pair/*", "mmap_munmap/*", "fork64k/shared", "anon_name_objects/same64k",
         "vmap_alloc/fit4in1", "guard_objects/anon", "fork_guard/guarded/anon")


def chosen(rows, patterns):
    return [row for pattern in patterns for row in rows
            if fnmatch.fnmatchcase(row["name"], pattern)
            and row["unit"] != CYCLES]


def insert(lines, *where):
    subprocess.run([f"{TOP}/scripts/insert", *where], input="\n".join(lines), text=True, check=True)


NUMBERS = re.compile(r"(^Numbers \(scripts/bench:([^)]*)\)\n-+\n\n).*?(^\(end of numbers\)\n)",
                     re.M | re.S)


def cover_letter(text, rows):
    """Fill "Numbers (scripts/bench: ROW...)" with what was measured of these rows."""
    def table(m):
        lines = [f" {'':32} {'stock':>13} {'patched':>13}"]
        for row in chosen(rows, m[2].split()):
            lines.append(f" {row['name']:32} {number(row['stock']):>13} {number(row['patched']):>13}"
                         + ("" if row["ratio"] is None else f"   {row['ratio']:.3f}"))
        return m[1] + "\n".join(lines) + "\n" + m[3]
    return NUMBERS.sub(table, text)


PLOT = """
set terminal svg size 640,440 font "sans-serif,13" background "#ffffff"
set output "{path}"
set title "{title}"
set logscale xy 2
set xtics (16, 64, 256, 1024)
set xrange [14:1200]
set yrange [0.8:2048]
set ytics nomirror
set xlabel "children"
set ylabel "VMAs visited in a walk"
set y2label "instructions for a walk"
set logscale y2 10
set y2tics
set key below
set grid xtics
$data << END
{data}
END
plot $data using 1:2 with linespoints lw 2 pt 7 lc 1 title "a page that one child wrote: VMAs", \\
     $data using 1:3 with linespoints lw 2 pt 7 lc 2 title "a page that all share: VMAs", \\
     $data using 1:4 axes x1y2 with linespoints dt 2 pt 6 lc 1 title "the first: instructions", \\
     $data using 1:5 axes x1y2 with linespoints dt 2 pt 6 lc 2 title "the second: instructions"
"""


def plot(rows, facts, path):
    """What walks cost families of several sizes, as SVG."""
    by = {row["name"]: row["patched"] for row in rows}
    sizes = sorted(int(name.rpartition("/")[2]) for name in by if name.startswith("rmap_walk/child/"))
    data = "\n".join(" ".join([str(n)] + [str(by[f"{what}/{page}/{n}"])
                                          for what in ("rmap_visits", "rmap_walk")
                                          for page in ("child", "shared")]) for n in sizes)
    call(f"{TOP}/scripts/setup", "gnuplot=gnuplot-nox")
    title = f"Linux {facts['kernel']} with the series: a walk of the reverse map"
    subprocess.run(["gnuplot"], input=PLOT.format(path=path, data=data, title=title), text=True,
                   check=True)


def write(rows, facts):
    """Put the figures wherever they stand: one run makes them all."""
    insert(tables(rows, facts), "bench", f"Documentation/benchmarks/{env.BASE}.md")
    if COUNTED_BOOTS:
        plot(rows, facts, f"{TOP}/Documentation/benchmarks/rmap-{env.BASE}.svg")
    if env.BASE == env.bases()[-1]:
        insert(["| | unit | stock | patched | ratio |", "|---|---|---:|---:|---:|"] + [
            f"| `{row['name']}` | {row['unit']} {cells(row)}|" for row in chosen(rows, SHORT)]
            + ["", facts["kernel"] + "; " + facts["accel"] + "."], "bench")
    for path in glob.glob(f"{PATCHES}/*/cover-letter"):
        with open(path, encoding="utf-8") as f:
            text = f.read()
        with open(path, "w", encoding="utf-8") as f:
            f.write(cover_letter(text, rows))


def gate(rows):
    by = {row["name"]: row for row in rows}
    wanted = [pattern for pattern, _, _ in LIMITS]
    wanted += [column for _, column, _ in LIMITS if column and "/" in column]
    short = [f"{pattern}: not measured" for pattern in wanted if not fnmatch.filter(by, pattern)]
    for row in (row for row in rows if misses(row, by)):
        column, most = limit(row)
        short.append(f"{row['name']}: {column} {reached(row, by):g}, at most {most:g}")
    for text in short:
        print("not ok " + text)
    print(f"gate: {len(rows)} rows, {len(short)} fall short")
    return 1 if short else 0


def functions(system_map, counts, operations):
    """{function: instructions per operation}"""
    with open(system_map, encoding="utf-8") as f:
        symbols = sorted((int(a, 16), name) for a, kind, name in map(str.split, f)
                         if kind in "tTwW")
    starts, result = [a for a, _ in symbols], collections.Counter()
    with open(counts, encoding="utf-8") as f:
        for line in f:
            pc, n = int(line.split()[0], 16), int(line.split()[1])
            if not pc:
                name = "[user space]"
            elif pc >= MODULES:
                name = "[modules]"
            else:
                # .isra.0 and the like differ from build to build
                name = symbols[bisect.bisect(starts, pc) - 1][1].split(".")[0]
            result[name] += n / operations
    return result
