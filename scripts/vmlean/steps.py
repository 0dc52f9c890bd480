# SPDX-License-Identifier: GPL-2.0
"""The table of what `make check` does."""

import collections
import glob
import os
import re

from vmlean import env

# lane:  build or test
# kind:  run: one result, its exit status; tap: TAP on stdout;
#        boot: build/BASE/results/STEP/results.json
# needs: steps that must have passed; ~STEP: that must have ended, if it runs
# when:  each: on every base; full: only with --full (before a release), for it takes too
#        long for every change; nothing: on the base that is checked in full
# base:  filled in by of_base()
Step = collections.namedtuple("Step", "name lane kind kernel needs command when base",
                              defaults=("", ""))
SETUP = Step("setup", "build", "run", "host", "", "scripts/setup")
STEPS = [Step(*row) for row in (
    ("kernel", "build", "run", "host", "setup", "scripts/kernel", "each"),
    ("apply", "build", "run", "host", "kernel", "scripts/apply", "each"),
    ("drift", "test", "run", "host", "apply", "scripts/export --check", "each"),
    ("counters", "test", "run", "host", "apply", "scripts/checks/counters --check"),
    ("anon-vma-sites", "test", "run", "host", "apply", "scripts/checks/anon-vma-sites", "each"),
    ("lint", "test", "tap", "host", "apply",
     "scripts/checks/lint codespell shellcheck python"),
    ("lint-patches", "test", "tap", "host", "apply", "scripts/checks/lint checkpatch kernel-doc"),
    ("vma", "test", "tap", "host", "apply", "scripts/checks/vma-tests", "each"),
    ("mutants", "test", "tap", "host", "vma", "scripts/mutate --quick"),
    ("vmap", "test", "tap", "host", "apply", "scripts/checks/vmap-tests check", "each"),
    ("vmap-mutants", "test", "tap", "host", "vmap", "scripts/checks/vmap-tests mutants", "full"),
    ("pgwalk", "test", "tap", "host", "apply", "scripts/checks/pgwalk-tests", "each"),
    ("model", "test", "tap", "host", "setup", "scripts/checks/model"),

    ("build-plain", "build", "run", "plain", "apply", "scripts/build plain", "each"),
    ("upstream-build", "build", "run", "host", "apply", "scripts/checks/upstream-tests build",
     "each"),
    ("image-plain", "build", "run", "plain", "build-plain ~upstream-build",
     "scripts/image plain", "each"),
    ("plain", "test", "boot", "plain", "image-plain", "scripts/boot plain check", "each"),
    ("run", "test", "boot", "plain", "image-plain", "scripts/boot plain run"),
    ("plain-up", "test", "boot", "plain 1 CPU", "image-plain",
     "scripts/boot plain vmap --cpus 1"),
    ("plain-off", "test", "boot", "plain off", "image-plain",
     "scripts/boot plain options --append vma_recycle=off"),
    ("plain-nokmem", "test", "boot", "plain nokmem", "image-plain",
     "scripts/boot plain options --append cgroup.memory=nokmem"),
    ("plain-nodes", "test", "boot", "plain 2 nodes", "image-plain",
     "scripts/boot plain check@recycle --append numa=fake=2"),
    ("rmap", "test", "boot", "plain 2 nodes", "image-plain", "scripts/boot plain rmap"),
    ("upstream", "test", "boot", "plain", "image-plain upstream-build",
     "scripts/checks/upstream-tests run plain", "each"),
    ("upstream-compare", "test", "run", "plain", "image-plain ~upstream",
     "scripts/checks/upstream-compare", "each"),

    ("build-debug", "build", "run", "debug", "apply", "scripts/build debug"),
    ("image-debug", "build", "run", "debug", "build-debug", "scripts/image debug"),
    ("debug", "test", "boot", "debug", "image-debug", "scripts/boot debug check"),
    ("debug-force", "test", "boot", "debug force", "image-debug",
     "scripts/boot debug check@recycle --append vma_recycle=force"),
    ("rmap-force", "test", "boot", "debug force, 2 nodes", "image-debug",
     "scripts/boot debug rmap --append vma_recycle=force"),

    ("build-norcu", "build", "run", "debug-norcu", "apply", "scripts/build debug-norcu"),
    ("image-norcu", "build", "run", "debug-norcu", "build-norcu", "scripts/image debug-norcu"),
    ("norcu-force", "test", "boot", "debug-norcu force", "image-norcu",
     "scripts/boot debug-norcu check@reuse --append vma_recycle=force"),
    ("rmap-norcu", "test", "boot", "debug-norcu 2 nodes", "image-norcu",
     "scripts/boot debug-norcu rmap"),

    ("sparse", "build", "tap", "host", "apply", "scripts/checks/lint sparse", "full"),
    ("topics", "test", "tap", "host", "apply", "scripts/checks/topics --apply-only"),
    ("topics-build", "build", "tap", "host", "apply", "scripts/checks/topics", "full"),
    ("objcmp", "build", "tap", "host", "apply", "scripts/checks/objcmp", "full"),
    ("bisect", "build", "tap", "host", "image-plain", "scripts/checks/bisect", "full"),
    ("objcmp-all", "build", "tap", "host", "apply", "scripts/checks/objcmp --all", "full"),
    ("mutants-boot", "build", "tap", "host", "image-plain", "scripts/mutate --boot", "full"),
    ("range", "build", "run", "host", "apply", "scripts/checks/range", "full"),
)]


def has(base, name):
    """Not every base has every check: some stand in the line checks= of the BASEs that do."""
    owners = [b for b in env.bases() if name in env.base_value("checks", b).split()]
    return not owners or base in owners


def of_base(base, prefix):
    """The rows for a base; with a prefix, if it is another than the one in use."""
    for step in STEPS:
        if has(base, step.name) and (not prefix or step.when == "each"):
            yield step._replace(name=prefix + step.name, kernel=f"{base} {step.kernel}", base=base,
                                needs=re.sub(r"(?!setup\b)\b[\w-]+", prefix + r"\g<0>", step.needs))


def script_tests():
    """scripts/tests/NAME_test: tests of the scripts themselves."""
    for path in sorted(glob.glob(f"{env.TOP}/scripts/tests/*_test")):
        name = os.path.basename(path)[:-len("_test")]
        if has(env.BASE, name):
            yield Step("test-" + name, "test", "tap", "host", "apply ~image-plain ~plain",
                       os.path.relpath(path, env.TOP), base=env.BASE)


def steps():
    """All steps: those of the base in use; then, unless a person has chosen that base,
    what is done on the others; then the tests of the scripts."""
    yield SETUP._replace(base=env.BASE)
    yield from of_base(env.BASE, "")
    for base in [] if env.CHOSEN else env.bases():
        if base != env.BASE:
            yield from of_base(base, base + "/")
    yield from script_tests()
