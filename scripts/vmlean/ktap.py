# SPDX-License-Identifier: GPL-2.0
"""TAP and KTAP: the one parser of what tests say, and what our own tests say with."""

import collections
import json
import re
import time

from vmlean.env import note, stage


class Problem(Exception):
    """Ends the run with a verdict of CODES and a reason."""

    def __init__(self, verdict, reason):
        super().__init__(reason)
        self.verdict = verdict


class Results:
    """Parser of the result channel. Only PID 1 writes at the start of a line."""

    RESULT = re.compile(r"(ok|not ok) (\d+)\b ?(?:- )?(.*)$")
    PLAN = re.compile(r"1\.\.(\d+)\b")
    HEADER = re.compile(r"K?TAP version \d+$")
    SKIP = re.compile(r"# *SKIP\b", re.I)

    def __init__(self, nonce, show=False):
        self.nonce, self.show = nonce, show
        self.head, self.suites, self.data, self.problems = {}, {}, [], []
        self.plan, self.seen, self.ended, self.current = None, 0, False, None
        self.began = time.time()
        self.reset_test()

    def reset_test(self):
        self.scopes = []        # open nested lists: [indent, plan, seen, failed]
        self.points, self.failures, self.trouble = 0, [], []
        self.tail = collections.deque(maxlen=200)   # what was said since the last result

    def line(self, text):
        """One line; returns the (seconds, description) of a test that begins."""
        if text.startswith("    "):
            self.nested(text[4:])
        elif m := re.match(r"# run (\d+) (\S+) (.*)$", text):
            self.current, self.began = m[3], time.time()
            self.reset_test()
            return float(m[2]), m[3]
        elif m := re.match(r"# end (\S*)$", text):
            if m[1] != self.nonce:
                self.problems.append("an end marker with a foreign nonce")
            else:
                self.ended, self.current = True, None
        elif m := re.match(r"# ([\w-]+): (.*)$", text):
            self.head[m[1]] = m[2]
        elif m := self.PLAN.match(text):
            self.plan = int(m[1])
        elif m := self.RESULT.match(text):
            self.top_result(m[1] == "ok", int(m[2]), m[3])
        elif text.startswith("Bail out!"):
            raise Problem("infrastructure", "PID 1: " + text)
        elif text and not self.HEADER.match(text) and not text.startswith("#"):
            self.problems.append(f"not KTAP on the result channel: {text[:80]!r}")
        return None

    def close(self, indent):
        """End the nested lists this deep or deeper; (had results, had failures)."""
        had = failed = False
        while self.scopes and self.scopes[-1][0] >= indent:
            _, plan, seen, bad = self.scopes.pop()
            if plan is not None and plan != seen:
                self.trouble.append(f"{seen} of {plan} planned results")
            had, failed = had or seen > 0, failed or bad
        return had, failed

    def nested(self, text):
        if text.startswith("#> ") and self.show:
            print(text[3:], flush=True)
        if m := re.match(r"\s*# json (\S+) (\{.*\})\s*$", text):
            try:
                self.data.append({"name": m[1], **json.loads(m[2])})
            except ValueError:
                self.trouble.append(f"broken # json {m[1]}")
            return
        body = text.lstrip(" ")
        indent = len(text) - len(body)
        scope = next((s for s in self.scopes if s[0] == indent), None)
        if self.HEADER.match(body):
            self.close(indent)
            self.scopes.append([indent, None, 0, False])
        elif m := self.PLAN.match(body):
            if scope is None or scope[1] is not None:
                self.close(indent)
                scope = [indent, None, 0, False]
                self.scopes.append(scope)
            scope[1] = int(m[1])
        elif scope and (m := self.RESULT.match(body)):
            parent, child_failed = self.close(indent + 1)
            scope[2] += 1
            if int(m[2]) != scope[2]:
                self.trouble.append(f"result {m[2]} where {scope[2]} was due")
            if m[1] == "not ok":
                scope[3] = True
            if not parent or (m[1] == "not ok" and not child_failed):
                self.point(m[1] == "ok", m[3])
            self.tail.clear()
        else:
            self.tail.append(text)

    def point(self, ok, name):
        suite = (self.current or "?").split(":")[0]
        s = self.suites.setdefault(suite, {"suite": suite, "pass": 0, "fail": 0, "skip": 0,
                                           "failed": []})
        self.points += 1
        if not ok:
            s["fail"] += 1
            s["failed"].append(name)
            self.failures.append((name, list(self.tail)))
        else:
            s["skip" if self.SKIP.search(name) else "pass"] += 1

    def top_result(self, ok, number, text):
        self.seen += 1
        if number != self.seen:
            self.problems.append(f"result {number} where {self.seen} was due")
        if text.startswith("end: "):
            self.current = text
        self.close(0)
        if self.trouble:
            ok, text = False, text + " # " + "; ".join(self.trouble)
        if not self.points or (not ok and (not self.failures or self.trouble)):
            self.point(ok, text)
        bad = bool(self.failures)
        word = "FAIL" if bad else "skip" if self.SKIP.search(text) else "ok"
        points = f"{self.points} points, " if self.points > 1 else ""
        stage(f"{word:4} {text}  ({points}{time.time() - self.began:.1f} s)")
        for name, lines in self.failures:
            if name != text:
                note("not ok " + name)
            for line in lines:
                note("| " + line)
        self.reset_test()

    def count(self, what):
        return sum(s[what] for s in self.suites.values())

    def judge(self):
        """Raise what is wrong with a run whose guest has ended by itself."""
        where = f" during '{self.current}'" if self.current else ""
        if self.plan is None:
            raise Problem("fail", "the guest ended before the plan began")
        if self.seen != self.plan or not self.ended:
            raise Problem("fail", f"incomplete: {self.seen} of {self.plan} results, "
                          f"{'the' if self.ended else 'no'} end marker; the guest ended{where}")
        if self.problems:
            raise Problem("fail", self.problems[0])
        if self.count("fail"):
            raise Problem("fail", f"{self.count('fail')} failed")
        own = [s for s in self.suites.values() if s["suite"] != "end"]
        if not own:
            raise Problem("fail", "the plan has no test")
        if not sum(s["pass"] for s in own):
            raise Problem("skip", "everything was skipped")


class Points:
    """Writes the results of a test script: point() for each, then end()."""

    def __init__(self):
        self.count = self.failed = 0

    def point(self, ok, name, detail=""):
        self.count += 1
        self.failed += not ok
        print(f"{'ok' if ok else 'not ok'} {self.count} - {name}", flush=True)
        if not ok:
            print("".join(f"# {line}\n" for line in detail.splitlines()), end="", flush=True)

    def end(self):
        """Print the plan; the exit status."""
        print(f"1..{self.count}")
        return 1 if self.failed else 0
