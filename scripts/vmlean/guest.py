# SPDX-License-Identifier: GPL-2.0
"""A guest: QEMU, its two serial ports, and the verdict about a run.

The console is watched for panics and splats; the results are KTAP, written by
PID 1 (tools/testing/init). QEMU's exit status says nothing: it is 0 after a panic.
"""

import ctypes
import datetime
import json
import mmap
import os
import re
import selectors
import subprocess
import tempfile
import time

from vmlean.env import BUILD, TOP, note, stage
from vmlean.ktap import Problem, Results

CODES = {"pass": 0, "fail": 1, "skip": 4, "timeout": 124, "infrastructure": 125, "panic": 255}

# The TCG CPU has no ERMS/FSRM ("max" has): TCG runs "rep movsb" byte by byte, so
# clearing a page would take, and count as, 4096 instructions; no SMAP, which
# flushes translations; no 5-level page tables. Otherwise what the kernel uses.
TCG_CPU = "Nehalem"

BOOT_SECONDS = 10       # until the plan begins; like all times here native, times the scale
END_SECONDS = 10        # from the end marker to the end of QEMU
TEST_GRACE = 15         # PID 1 enforces a test's time; this much later PID 1 itself is lost
PANIC_SECONDS = 5       # wall time in which a dying kernel may print its trace

PANIC = re.compile(r"Kernel panic - not syncing")
PREFIX = re.compile(r"^(<\d+>)?(\[ *\d+\.\d+\])?(\[ *[TC]\d+\])? *")


class Console:
    """Watches the kernel's console for a panic and for what scripts/splats denies."""

    def __init__(self, table=f"{TOP}/scripts/splats"):
        self.rules, self.lines, self.splats, self.panic = [], [], [], None
        today = datetime.date.today().isoformat()
        with open(table, encoding="utf-8") as f:
            for text in f:
                word, _, rest = text.strip().partition(" ")
                if not word or word.startswith("#"):
                    continue
                if word == "deny":
                    self.rules.append((re.compile(rest), ""))
                elif word == "allow" and (m := re.match(r"(\d{4}-\d\d-\d\d) (.*?)\s+# ", rest)):
                    expired = f" (allowed until {m[1]} only)" if m[1] < today else None
                    # before all denials: an exception to them
                    self.rules.insert(0, (re.compile(m[2]), expired))
                else:
                    raise Problem("infrastructure", f"{table}: cannot read '{text.strip()}'")

    def line(self, raw):
        text = PREFIX.sub("", raw.rstrip())
        self.lines.append(text)
        if PANIC.search(text):
            self.panic = self.panic or text
        for regex, remark in self.rules:
            if regex.search(text):
                if remark is not None and len(self.splats) < 50:
                    self.splats.append(text + remark)
                break


def kvm_works():
    """A guest that counts to 2^24: /dev/kvm may open and yet not, or hardly, run one."""
    rom = bytearray(b"\xf4" * 65536)
    # mov ecx, 1 << 24; 1: dec ecx; jnz 1b; mov al, 16; out 0xf4, al; hlt
    loop = bytes.fromhex("66b9000000016649" "75fc" "b010e6f4f4")
    rom[0xff00:0xff00 + len(loop)] = loop
    rom[0xfff0:0xfff3] = b"\xe9\x0d\xff"       # the reset vector: jmp 0xff00
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "no access to /dev/kvm"
    with tempfile.NamedTemporaryFile() as f:
        f.write(rom)
        f.flush()
        try:
            rc = subprocess.run(qemu("kvm") + ["-display", "none", "-bios", f.name, "-device",
                                "isa-debug-exit,iobase=0xf4"], timeout=2, stdin=subprocess.DEVNULL,
                                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode
        except subprocess.TimeoutExpired:
            rc = "time-out"
    return None if rc == 33 else f"/dev/kvm is there, but does not run a guest ({rc})"


def qemu(accel, icount=False):
    # thread=single: with a thread for each vCPU, one of them can run into the int3
    # of a static key that another has just finished patching, and panic
    accels = {"kvm": ["-accel", "kvm", "-cpu", "host"],
              "tcg": ["-accel", "tcg,thread=single", "-cpu", TCG_CPU]}
    # setpriv: QEMU dies with us, even if we are killed
    return ["setpriv", "--pdeathsig", "KILL", "qemu-system-x86_64", "-nodefaults",
            "-no-user-config", "-no-reboot", "-M", "q35", *accels[accel],
            *(["-icount", "shift=0,sleep=off,align=off"] if icount else [])]


def host_tsc_khz():
    """TCG hands the host's TSC to the guest, who cannot measure it on a busy host."""
    with mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC) as code:
        # rdtsc; shl rdx, 32; or rax, rdx; ret
        code.write(bytes.fromhex("0f31" "48c1e220" "4809d0" "c3"))
        page = ctypes.c_char.from_buffer(code)
        rdtsc = ctypes.CFUNCTYPE(ctypes.c_uint64)(ctypes.addressof(page))
        t, ticks = time.perf_counter_ns(), rdtsc()
        while time.perf_counter_ns() - t < 20_000_000:
            pass
        khz = (rdtsc() - ticks) * 1_000_000 // (time.perf_counter_ns() - t)
        del page
    return khz


def read(path):
    with open(path, encoding="utf-8") as f:
        return f.read()


def check_kernel(out, head):
    """The guest must run the very kernel of that build."""
    release = read(f"{out}/include/config/kernel.release").strip()
    version = re.search('"(.*)"', read(f"{out}/include/generated/utsversion.h"))[1]
    for what, want in (("release", release), ("version", version)):
        if head.get(what) != want:
            raise Problem("infrastructure", f"wrong kernel: {what} is '{head.get(what)}', "
                          f"'{want}' was built")
    with open(f"{out}/vmlinux", "rb") as f, mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) as m:
        if m.find(b"GNU\0" + bytes.fromhex(head.get("build-id", ""))) < 0:
            raise Problem("infrastructure", "wrong kernel: the build ID is not that of "
                          f"{out}/vmlinux")


def plan_lines(variant, name):
    """Of a plan as scripts/image has packed it; of none, where there is none."""
    try:
        return read(f"{BUILD}/image/{variant}.root/plans/{name}").splitlines()
    except OSError:
        return []


def plan_parameters(variant, name):
    """What a plan wants on the kernel command line: lines '# append WORDS'."""
    return " ".join(s[len("# append "):] for s in plan_lines(variant, name)
                    if s.startswith("# append "))


def plan_seconds(variant, name, only):
    """What the tests of a plan may take."""
    try:
        return sum(float(w[1]) for w in map(str.split, plan_lines(variant, name))
                   if w and not w[0].startswith("#") and (not only or w[0] in only.split(","))) \
            or 600
    except (ValueError, IndexError):
        return 600


def watch(args, scale, pipes, out, results, console):
    """Follow both channels until the guest ends or a deadline passes."""
    seconds = args.seconds or plan_seconds(args.variant, args.plan, args.only) + 120
    end = time.time() + scale * seconds
    step, what = time.time() + scale * BOOT_SECONDS, "it did not begin the plan"
    rest = {fd: b"" for fd in pipes}
    checked = False
    with selectors.DefaultSelector() as sel:
        for fd in pipes:
            sel.register(fd, selectors.EVENT_READ)
        while sel.get_map():
            now = time.time()
            if now > min(end, step):
                if console.panic or results.ended:
                    return
                raise Problem("timeout", "time-out: " + (what if step < end or not results.current
                              else f"the whole run took too long, now at '{results.current}'"))
            for key, _ in sel.select(min(end, step) - now + 0.01):
                data = os.read(key.fd, 65536)
                if not data:
                    sel.unregister(key.fd)
                pipes[key.fd].write(data)
                # not splitlines(): a test must not end a line with \r, \v or the like
                *lines, rest[key.fd] = (rest[key.fd] + data).split(b"\n")
                for raw in lines:
                    text = raw.decode("utf-8", "replace")
                    if key.fd != results.fd:
                        console.line(text)
                        if console.panic and what != "panic":
                            step, what = time.time() + PANIC_SECONDS, "panic"
                        continue
                    begins = results.line(text)
                    if what == "panic":
                        continue
                    if results.plan is not None and not checked:
                        check_kernel(out, results.head)
                        checked = True
                    if begins:
                        step = time.time() + scale * (begins[0] + TEST_GRACE)
                        what = f"the guest hangs in '{begins[1]}'"
                    elif results.ended:
                        step = time.time() + scale * END_SECONDS
    if rest[results.fd] and not console.panic:
        results.problems.append("the last line has no end")


def stop(process):
    process.terminate()
    try:
        process.wait(2)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def shell(command):
    note("leave with 'exit', or end QEMU with Ctrl-A X")
    process = subprocess.Popen(command + ["-display", "none", "-serial", "mon:stdio"])
    try:
        process.wait()
    finally:
        stop(process)
    return 0


def run(args, command, out, accel, scale, nonce):
    folder = f"{BUILD}/results/{args.name or args.variant + '-' + args.plan}"
    os.makedirs(folder, exist_ok=True)
    log = f"{folder}/console.log"
    results, began = Results(nonce, args.show), time.time()
    verdict, reason, process, console = "pass", "", None, None
    files = [open(log, "wb"), open(f"{folder}/results.ktap", "wb")]
    try:
        console = Console()
        ends = [os.pipe(), os.pipe()]
        results.fd = ends[1][0]
        for _, w in ends:
            command += ["-serial", f"file:/dev/fd/{w}"]
        process = subprocess.Popen(command + ["-display", "none"], stdin=subprocess.DEVNULL,
                                   stderr=subprocess.PIPE, start_new_session=True,
                                   pass_fds=[w for _, w in ends])
        for _, w in ends:
            os.close(w)
        watch(args, scale, {r: f for (r, _), f in zip(ends, files)}, out, results, console)
        if not console.lines and results.plan is None:
            raise Problem("infrastructure", "QEMU ended without a word of the kernel: " +
                          process.stderr.read().decode(errors="replace").strip()[-300:])
        if not console.panic:
            results.judge()
    except Problem as e:
        verdict, reason = e.verdict, str(e)
    except KeyboardInterrupt:
        verdict, reason = "infrastructure", "interrupted"
    except OSError as e:
        verdict, reason = "infrastructure", str(e)
    finally:
        if process:
            stop(process)
        for f in files:
            f.close()
    splats = console.splats if console else []
    if console and console.panic:
        verdict, reason = "panic", console.panic
    elif splats and verdict in ("pass", "skip", "fail"):
        reason = f"{len(splats)} splat(s) on the console" + (f"; {reason}" if reason else "")
        verdict = "fail"
    report(args, results, console, verdict, reason, time.time() - began, log)
    with open(f"{folder}/results.json", "w", encoding="utf-8") as f:
        json.dump({"variant": args.variant, "plan": args.plan, "verdict": verdict,
                   "reason": reason, "accel": accel, "seconds": round(time.time() - began, 1),
                   "suites": list(results.suites.values()), "splats": splats,
                   "data": results.data}, f, indent=1)
    return CODES[verdict]


def report(args, results, console, verdict, reason, seconds, log):
    for text in console.splats[:10] if console else []:
        note("splat: " + text)
    if console and verdict in ("panic", "timeout", "infrastructure"):
        lines = console.lines
        first = next((i for i, s in enumerate(lines) if PANIC.search(s)), len(lines))
        note("the console's last lines:")
        for text in lines[max(0, first - 15):first + 15]:
            note("| " + text)
    stage(f"{verdict.upper()} {args.variant} {args.plan}" + (f": {reason}" if reason else ""))
    note(f"{results.count('pass')} passed, {results.count('fail')} failed, "
         f"{results.count('skip')} skipped in {seconds:.0f} s" +
         ("" if verdict == "pass" else f"; console: {log}, results: results.ktap beside it"))
