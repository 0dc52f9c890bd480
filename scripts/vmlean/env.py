# SPDX-License-Identifier: GPL-2.0
"""Where things are, which base is in use, and how a script speaks."""

import glob
import os
import re
import sys
import time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))


def bases():
    """The folders of patches/ that hold a file BASE, oldest first."""
    names = [os.path.basename(os.path.dirname(p)) for p in glob.glob(f"{TOP}/patches/*/BASE")]
    return sorted(names, key=lambda name: [int(n) for n in re.findall(r"\d+", name)])


def note(text):
    print("        " + text, flush=True)


def die(what, way_out=""):
    print(f"vmlean: error: {what}" + (f" -- {way_out}" if way_out else ""), file=sys.stderr)
    sys.exit(125)


# The base: BASE= names one, the newest is the default, as in lib.sh.
CHOSEN = bool(os.environ.get("BASE"))
BASE = os.environ.get("BASE") or bases()[-1]
BUILD = os.environ.get("VMLEAN_BUILD") or f"{TOP}/build/{BASE}"
PATCHES = os.environ.get("VMLEAN_PATCHES") or f"{TOP}/patches/{BASE}"
LINUX = f"{BUILD}/linux"
if not os.path.exists(f"{PATCHES}/BASE"):
    die(f"no base '{BASE}'", f"BASE= takes one of: {' '.join(bases())}")
T0 = float(os.environ.setdefault("VMLEAN_T0", str(int(time.time()))))


def build_of(base):
    """The build directory of any base; tests put that of BASE elsewhere."""
    if base == BASE:
        return BUILD
    return f"{os.environ.get('VMLEAN_BUILD') or TOP + '/build'}/{base}"


def environment(base):
    """What a script must find in its environment to work on that base."""
    changed = {**os.environ, "BASE": base}
    if base != BASE:
        for name in ("VMLEAN_PATCHES", "KSRC", "KTARBALL"):
            changed.pop(name, None)
        if "VMLEAN_BUILD" in changed:
            changed["VMLEAN_BUILD"] = build_of(base)
    return changed


def base_value(key, base):
    """One value of a base's file BASE."""
    patches = PATCHES if base == BASE else f"{TOP}/patches/{base}"
    with open(f"{patches}/BASE", encoding="utf-8") as f:
        found = re.search(rf'^{key}="?(.*?)"?$', f.read(), re.M)
    return found[1] if found else ""


def rows(path):
    """The rows of a table: words between blanks; without comments."""
    try:
        with open(path, encoding="utf-8") as f:
            return [line.split() for line in f if line.strip() and line[0] != "#"]
    except OSError as e:
        die(f"no {path}: {e.strerror}")


def clock(seconds):
    return f"{int(seconds) // 60:02d}:{int(seconds) % 60:02d}"


def stage(text):
    """A line with the time since the first script began."""
    print(f"[{clock(max(0, time.time() - T0))}] {text}", flush=True)
