# SPDX-License-Identifier: GPL-2.0
"""The table of variants, tools/testing/variants."""

import collections

from vmlean.env import TOP, die, rows

Variant = collections.namedtuple("Variant", "name tree slower mem objects fragments")


def table():
    """{name: Variant}"""
    path = f"{TOP}/tools/testing/variants"
    return {name: Variant(name, tree, int(slower), int(mem), int(objects), fragments)
            for name, tree, slower, mem, objects, *fragments in rows(path)}


def find(name):
    """The variant that NAME is, or is another build of: plain, plain.d4."""
    known = table()
    if name.partition(".")[0] not in known:
        die(f"no variant '{name}'", f"one of: {' '.join(known)}")
    return known[name.partition(".")[0]]
