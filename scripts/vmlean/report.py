# SPDX-License-Identifier: GPL-2.0
"""Counts the results of tests: TAP from the host, results.json from guests."""

import json
import os

from vmlean import ktap
from vmlean.env import BUILD

CHECK_JSON = f"{BUILD}/results/check.json"


def entry(suite, kernel, passed=0, failed=(), skip=0):
    return {"suite": suite, "kernel": kernel, "pass": passed, "fail": len(failed),
            "skip": skip, "failed": list(failed)}


def from_exit(suite, kernel, status):
    """A step that is one test: it works or it does not."""
    if status:
        return [entry(suite, kernel, failed=[f"exit status {status}"])]
    return [entry(suite, kernel, 1)]


def from_tap(suite, kernel, text, status):
    """Each result of the innermost lists counts once."""
    parser = ktap.Results("")
    parser.current = suite
    parser.nested("TAP version 13")
    for line in text.splitlines():
        parser.nested(line)
    if not any(plan is not None for indent, plan, *_ in parser.scopes if indent == 0):
        parser.trouble.append("no plan: it did not get to its end")
    parser.close(0)
    found = parser.suites.get(suite, entry(suite, kernel))
    failed = list(found["failed"])
    failed += parser.trouble
    if not found["pass"] and not failed:
        failed.append("no result")
    if status and not failed:
        failed.append(f"exit status {status}, though no test failed")
    return [entry(suite, kernel, found["pass"], failed, found["skip"])]


def from_boot(step, kernel, path, status):
    """What scripts/boot has written; what is wrong with the run as a whole (a
    splat, a panic, a time-out, a lost end marker) counts as one more failure."""
    try:
        with open(path, encoding="utf-8") as f:
            run = json.load(f)
    except (OSError, ValueError):
        return [entry(step, kernel, failed=[f"exit status {status}, no results"])]
    entries = [entry(s["suite"], kernel, s["pass"], s["failed"], s["skip"])
               for s in run["suites"]]
    for e, s in zip(entries, run["suites"]):
        e["fail"] = s["fail"]
    told = run["verdict"] == "fail" and not run["splats"] and sum(e["fail"] for e in entries)
    if (status or run["verdict"] != "pass") and not told:
        reason = run.get("reason") or f"exit status {status}"
        entries.append(entry(step, kernel, failed=[
            ": ".join([run["verdict"], reason, *run["splats"][:1]])]))
    elif not sum(e["pass"] for e in entries):
        entries.append(entry(step, kernel, failed=["no result"]))
    return entries


def merged(entries):
    """One entry for each suite and kernel, in the order of their first results."""
    sums = {}
    for e in entries:
        s = sums.setdefault((e["suite"], e["kernel"]), entry(e["suite"], e["kernel"]))
        for key in ("pass", "fail", "skip", "failed"):
            s[key] = s[key] + e[key]
    return list(sums.values())


def totals(entries):
    return tuple(sum(e[key] for e in entries) for key in ("pass", "fail", "skip"))


def last_line(entries):
    return "%d passed, %d failed, %d skipped" % totals(entries)


def table(entries):
    width = max([5, *(len(e["suite"]) for e in entries)])
    kernel = max([6, *(len(e["kernel"]) for e in entries)])
    yield f"{'suite':{width}}  {'kernel':{kernel}}  {'pass':>5} {'fail':>5} {'skip':>5}"
    for e in entries:
        yield (f"{e['suite']:{width}}  {e['kernel']:{kernel}}  {e['pass']:5} "
               f"{e['fail'] or '-':>5} {e['skip'] or '-':>5}")


def write(entries, path=CHECK_JSON):
    keys = ("suite", "kernel", "pass", "fail", "skip")
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path + ".new", "w", encoding="utf-8") as f:
        json.dump([{key: e[key] for key in keys} for e in entries], f, indent=1)
        f.write("\n")
    os.replace(path + ".new", path)
