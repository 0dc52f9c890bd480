# SPDX-License-Identifier: GPL-2.0
"""Runs the steps of a table (vmlean/steps.py) and counts what comes of them."""

import argparse
import collections
import glob
import os
import selectors
import shlex
import signal
import subprocess
import sys
import time

from vmlean import env, report
from vmlean.env import BUILD, TOP, clock, die, stage


class Run:
    """A step under way: a session of its own, its output in a log."""

    def __init__(self, step):
        self.step, self.began, self.seconds = step, time.time(), 0
        self.suite = os.path.basename(step.name)
        self.log = f"{BUILD}/log/check-{step.name.replace('/', '-')}.log"
        self.results = f"{env.build_of(step.base)}/results/{self.suite}"
        command = shlex.split(step.command)
        if step.kind == "boot":
            command += ["--name", self.suite]
            for old in glob.glob(f"{self.results}/results.*"):
                os.remove(old)
        command[0] = os.path.join(TOP, command[0])
        if step.lane == "build":
            command = ["nice", *command]
        os.makedirs(os.path.dirname(self.log), exist_ok=True)
        # TAP is on stdout; what else there is to say goes to a log of its own
        self.out = f"{self.log[:-4]}.tap" if step.kind == "tap" else self.log
        with open(self.log, "wb") as log, open(self.out, "ab" if step.kind != "tap" else "wb") as out:
            self.process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "TERM", *command], cwd=TOP,
                env=env.environment(step.base), stdin=subprocess.DEVNULL, stdout=out,
                stderr=log if step.kind == "tap" else out, start_new_session=True)

    def entries(self, status):
        step = self.step
        if step.kind == "tap":
            with open(self.out, encoding="utf-8", errors="replace") as f:
                return report.from_tap(self.suite, step.kernel, f.read(), status)
        if step.kind == "boot":
            return report.from_boot(self.suite, step.kernel, f"{self.results}/results.json", status)
        return report.from_exit(self.suite, step.kernel, status)

    def end(self, status):
        self.seconds = time.time() - self.began
        entries = self.entries(status)
        passed, failed, skipped = report.totals(entries)
        counts = f"{passed} passed" if self.step.kind != "run" else ""
        counts += f", {failed} failed" if failed and counts else ""
        counts += f", {skipped} skipped" if skipped else ""
        stage(f"{'FAIL' if failed else 'ok':4} {self.step.name:16} "
            f"{clock(self.seconds)}  {counts}".rstrip())
        if failed:
            self.explain(entries)
        return entries, not failed

    def explain(self, entries):
        names = [f"{e['suite']}: {name}" for e in entries for name in e["failed"]]
        for name in names[:20]:
            print("        not ok " + name)
        if len(names) > 20:
            print(f"        … and {len(names) - 20} more")
        with open(self.log, encoding="utf-8", errors="replace") as f:
            log = f.read().splitlines()
        if self.step.kind == "boot":
            # what the tests themselves said of it
            for line in [line for line in log if line.startswith("        | ")][:60]:
                print(line)
        elif self.step.kind == "run" or not names:
            for line in log[-12:]:
                print("        | " + line)
        print(f"        see {os.path.relpath(self.out, TOP)}", flush=True)

    def stop(self, how):
        try:
            os.killpg(self.process.pid, how)
        except ProcessLookupError:
            pass


class Check:
    """Runs steps as their needs and the two lanes allow."""

    def __init__(self, steps):
        self.names = {s.name for s in steps}
        self.waiting, self.running, self.done = list(steps), [], []
        self.passed, self.ended, self.entries = set(), set(), []

    def state(self, step):
        """ready, waiting, or which of its needs has failed"""
        for need in step.needs.split():
            soft, need = need.startswith("~"), need.lstrip("~")
            if need not in self.names:
                continue
            if need not in self.ended:
                return "waiting"
            if not soft and need not in self.passed:
                return need
        return "ready"

    def give_up(self):
        """Steps whose needs have failed; true if there were any."""
        lost = [(s, why) for s in self.waiting if (why := self.state(s)) not in ("ready", "waiting")]
        for step, why in lost:
            self.waiting.remove(step)
            self.ended.add(step.name)
            stage(f"FAIL {step.name:16} not run: {why} failed")
            self.entries.append(report.entry(os.path.basename(step.name), step.kernel,
                                             failed=[f"not run: {why} failed"]))
        return bool(lost)

    def next(self):
        """The step that can start now. One build at a time, and first those that others
        wait for; one test beside it; two tests where nothing is built."""
        ready = [s for s in self.waiting if self.state(s) == "ready"]
        builds = [s for s in ready if s.lane == "build"]
        tests = [s for s in ready if s.lane == "test"]
        lanes = [run.step.lane for run in self.running]
        awaited = {need.lstrip("~") for s in self.waiting for need in s.needs.split()}
        if builds and "build" not in lanes and lanes.count("test") < 2:
            return min(builds, key=lambda s: s.name not in awaited)
        if tests and lanes.count("test") < (1 if builds or "build" in lanes else 2):
            return tests[0]
        return None

    def start_what_is_ready(self):
        while self.give_up():
            pass
        while step := self.next():
            self.waiting.remove(step)
            stage(f"...  {step.name}")
            self.running.append(Run(step))

    def run(self):
        self.start_what_is_ready()
        with selectors.DefaultSelector() as sel:
            while self.running:
                for run in self.running:
                    fd = os.pidfd_open(run.process.pid)
                    sel.register(fd, selectors.EVENT_READ, run)
                ended = [key.data for key, _ in sel.select()]
                for fd in list(sel.get_map()):
                    sel.unregister(fd)
                    os.close(fd)
                for run in ended:
                    entries, ok = run.end(run.process.wait())
                    run.stop(signal.SIGKILL)    # whatever it left behind
                    self.running.remove(run)
                    self.done.append(run)
                    self.entries += entries
                    self.ended.add(run.step.name)
                    if ok:
                        self.passed.add(run.step.name)
                self.start_what_is_ready()

    def stop(self):
        for run in self.running:
            run.stop(signal.SIGTERM)
        for run in self.running:
            try:
                run.process.wait(5)
            except subprocess.TimeoutExpired:
                pass
            run.stop(signal.SIGKILL)

    def say_times(self):
        minutes = collections.Counter()
        for run in self.done:
            minutes[run.step.lane] += run.seconds / 60
        stage(f"where the time went: {minutes['build']:.1f} minutes of builds, "
              f"{minutes['test']:.1f} of tests; the longest steps:")
        for run in sorted(self.done, key=lambda run: -run.seconds)[:8]:
            print(f"{run.seconds / 60:12.1f} min  {run.step.name}")


def chosen(steps, wanted):
    """The wanted steps and what they need, in the table's order."""
    table = {s.name: s for s in steps}
    todo, names = list(wanted), set()
    while todo:
        name = todo.pop()
        if name not in table:
            die(f"no step '{name}'", f"one of: {' '.join(table)}")
        names.add(name)
        todo += [n for n in table[name].needs.split() if not n.startswith("~")]
    return [s for s in steps if s.name in names]


def interrupt(*_):
    raise KeyboardInterrupt


def main(description, steps):
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--full", action="store_true", help="also what only a release needs")
    parser.add_argument("steps", nargs="*", metavar="STEP")
    args = parser.parse_args()
    steps = chosen(steps, args.steps) if args.steps else \
        [s for s in steps if args.full or s.when != "full"]
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
    check = Check(steps)
    if os.path.exists(report.CHECK_JSON):
        os.remove(report.CHECK_JSON)    # an interrupted run leaves no old verdict
    try:
        check.run()
    except KeyboardInterrupt:
        check.stop()
        print("vmlean: error: interrupted; nothing of it still runs", file=sys.stderr)
        return 130
    entries = report.merged(check.entries)
    report.write(entries)
    check.say_times()
    stage("results in " + os.path.relpath(report.CHECK_JSON, TOP))
    print("\n".join(report.table(entries)))
    print(report.last_line(entries))
    return 1 if report.totals(entries)[1] or check.waiting else 0
