// SPDX-License-Identifier: GPL-2.0
/*
 * PID 1 of the test guest.
 *
 * Mounts what tests expect, runs /plans/<vmlean.plan=> line by line and reports
 * in KTAP on the second serial port; with vmlean.shell it gives a shell on the
 * first one instead. Then it reboots, which ends QEMU (-no-reboot).
 *
 * A line of a plan is "suite seconds command...", and vmlean.with= a program that
 * runs these commands. Whatever a test prints comes out indented and without control
 * characters, so that only this program can write at the start of a line, and nothing a
 * test starts outlives it.
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define MAX_TESTS	512
#define MAX_ONLY	1024		/* characters of vmlean.only= */
#define MAX_OUTPUT	(256 << 10)	/* bytes of one test that are passed on */
#define REAP_SECONDS	5		/* until a killed process counts as stuck */
#define KMEMLEAK	"/sys/kernel/debug/kmemleak"
/* a leak is only reported once it is older than five seconds */
#define KMEMLEAK_AGE	6
#define KMEMLEAK_SCANS	5
#define KMEMLEAK_SHOWN	8	/* of those that are lost */
/* out-of-tree and unsigned modules, KUnit: what the tests themselves cause */
#define TAINT_EXPECTED	(1UL << 12 | 1UL << 13 | 1UL << 18)

struct test {
	char suite[32];
	double seconds;
	char *command;
};

static struct test tests[MAX_TESTS];
static int nr_tests, nr_done;
static double scale = 1;
static char nonce[64];
static char with[64];			/* a program that runs each command */
static FILE *result;
static int sigfd;

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

/* Value of NAME= on the kernel command line in @value, which stays if not there. */
static bool param(const char *name, char *value, size_t size)
{
	char line[4096], *word, *save;
	size_t len = strlen(name);
	bool found = false;
	FILE *f = fopen("/proc/cmdline", "r");

	if (!f || !fgets(line, sizeof(line), f))
		line[0] = 0;
	if (f)
		fclose(f);
	for (word = strtok_r(line, " \n", &save); word; word = strtok_r(NULL, " \n", &save)) {
		if (strncmp(word, name, len) || (word[len] && word[len] != '='))
			continue;
		found = true;
		if (value)
			snprintf(value, size, "%s", word[len] ? word + len + 1 : "");
	}
	return found;
}

static int write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return -1;
	n = write(fd, text, strlen(text));
	close(fd);
	return n < 0 ? -1 : 0;
}

static void mounts(void)
{
	static const struct {
		const char *type, *dir, *options;
	} table[] = {
		{ "proc",	"/proc",		NULL },
		{ "sysfs",	"/sys",			NULL },
		{ "devtmpfs",	"/dev",			NULL },
		{ "tmpfs",	"/tmp",			"mode=1777" },
		{ "tmpfs",	"/dev/shm",		"mode=1777" },
		{ "devpts",	"/dev/pts",		NULL },
		{ "debugfs",	"/sys/kernel/debug",	NULL },
		{ "cgroup2",	"/sys/fs/cgroup",	NULL },
	};
	size_t i;

	for (i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		mkdir(table[i].dir, 0755);
		if (mount(table[i].type, table[i].dir, table[i].type, 0, table[i].options) &&
		    errno != ENODEV && errno != EBUSY)
			fprintf(stderr, "init: mount %s: %m\n", table[i].dir);
	}
	/* one by one: a kernel without one of them still gets the other */
	write_file("/sys/fs/cgroup/cgroup.subtree_control", "+memory");
	write_file("/sys/fs/cgroup/cgroup.subtree_control", "+pids");
}

static void open_result(void)
{
	int fd = open("/dev/ttyS1", O_RDWR | O_NOCTTY | O_CLOEXEC);
	struct termios t;

	if (fd < 0 || tcgetattr(fd, &t)) {
		fprintf(stderr, "init: no result channel (/dev/ttyS1): %m\n");
		return;
	}
	cfmakeraw(&t);
	cfsetspeed(&t, B115200);
	tcsetattr(fd, TCSANOW, &t);
	/* no test shall find it */
	unlink("/dev/ttyS1");
	result = fdopen(fd, "w");
}

/* The build ID in the kernel's ELF notes: which build this is, exactly. */
static void print_build_id(void)
{
	unsigned char note[4096];
	unsigned int head[3];
	size_t len, pos = 0, i;
	FILE *f = fopen("/sys/kernel/notes", "r");

	if (!f)
		return;
	len = fread(note, 1, sizeof(note), f);
	fclose(f);
	while (pos + sizeof(head) <= len) {
		size_t desc;

		memcpy(head, note + pos, sizeof(head));
		desc = pos + sizeof(head) + ((head[0] + 3) & ~3U);
		if (desc + head[1] > len)
			return;
		if (head[2] == 3 && head[0] == 4 && !memcmp(note + pos + sizeof(head), "GNU", 4)) {
			fprintf(result, "# build-id: ");
			for (i = 0; i < head[1]; i++)
				fprintf(result, "%02x", note[desc + i]);
			fprintf(result, "\n");
			return;
		}
		pos = desc + ((head[1] + 3) & ~3U);
	}
}

/* Is @suite one of @only, a list with commas? Where that is empty, each is. */
static bool chosen(const char *only, const char *suite)
{
	char list[MAX_ONLY + 3], word[sizeof(tests[0].suite) + 2];

	snprintf(list, sizeof(list), ",%s,", only);
	snprintf(word, sizeof(word), ",%s,", suite);
	return !*only || strstr(list, word);
}

static bool read_plan(void)
{
	char path[160] = "/plans/", *line = NULL;
	char only[MAX_ONLY] = "", *suite, *rest = only;
	size_t size = 0;
	FILE *f;
	int i;

	param("vmlean.plan", path + strlen(path), 128);
	param("vmlean.only", only, sizeof(only));
	f = fopen(path, "r");
	if (!f) {
		fprintf(result, "Bail out! no plan %s in the image\n", path);
		return false;
	}
	while (getline(&line, &size, f) > 0) {
		struct test *t = &tests[nr_tests];
		int at = 0;

		line[strcspn(line, "\n")] = 0;
		if (line[strspn(line, " \t")] == 0 || line[0] == '#')
			continue;
		if (nr_tests == MAX_TESTS ||
		    sscanf(line, "%31s %lf %n", t->suite, &t->seconds, &at) < 2 || !at ||
		    !line[at]) {
			fprintf(result, "Bail out! %s: not \"suite seconds command\": %s\n",
				path, line);
			return false;
		}
		if (!chosen(only, t->suite))
			continue;
		t->command = strdup(line + at);
		nr_tests++;
	}
	free(line);
	fclose(f);
	while ((suite = strsep(&rest, ",")) && *suite) {
		for (i = 0; i < nr_tests && strcmp(tests[i].suite, suite); i++)
			;
		if (i == nr_tests) {
			fprintf(result, "Bail out! no suite %s in %s\n", suite, path);
			return false;
		}
	}
	return true;
}

/* "suite: command", in which a '#' would start a directive. */
static const char *describe(const struct test *t)
{
	static char text[200];
	char *c;

	snprintf(text, sizeof(text), "%.31s: %.160s", t->suite, t->command);
	for (c = text; (c = strchr(c, '#')); )
		*c = '.';
	return text;
}

/* Output of the running test, which is passed on whole line by whole line. */
static struct {
	char line[16384];
	size_t len, total;
	bool cut;
} out;

static void out_line(void)
{
	size_t i;

	for (i = 0; i < out.len; i++) {
		unsigned char c = out.line[i];

		if (c != '\t' && (c < ' ' || c == 0x7f))
			out.line[i] = '?';
	}
	fprintf(result, "    %.*s\n", (int)out.len, out.line);
	fflush(result);
	out.len = 0;
}

static void out_add(const char *data, size_t len)
{
	out.total += len;
	if (out.total > MAX_OUTPUT) {
		if (!out.cut)
			fprintf(result, "    # output cut after %d bytes\n", MAX_OUTPUT);
		out.cut = true;
		out.len = 0;
		return;
	}
	for (; len; len--, data++) {
		if (*data == '\n') {
			/* no terminal: a carriage return before it is noise */
			if (out.len && out.line[out.len - 1] == '\r')
				out.len--;
			out_line();
			continue;
		}
		if (out.len == sizeof(out.line))
			out_line();
		out.line[out.len++] = *data;
	}
}

/* Everything that is in the pipe now; false once nobody can write to it. */
static bool out_drain(int fd)
{
	char data[4096];
	ssize_t n;

	while ((n = read(fd, data, sizeof(data))) > 0) {
		out_add(data, n);
		/* a writer faster than this loop must not stop the clock */
		if (n < (ssize_t)sizeof(data))
			break;
		if (out.cut)
			return true;
	}
	return n != 0;
}

/* Reap whatever is dead; the status of @main if it is among them. */
static bool reap(pid_t main, int *status)
{
	bool found = false;
	pid_t pid;
	int st;

	while ((pid = waitpid(-1, &st, WNOHANG)) > 0) {
		if (pid == main) {
			*status = st;
			found = true;
		}
	}
	return found;
}

/* A child of init with default signals, in a session of its own. */
static pid_t spawn(void)
{
	sigset_t none;
	pid_t pid = fork();

	if (pid)
		return pid;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	setsid();
	if (chdir("/"))
		_exit(127);
	return 0;
}

/* SIGCHLD or output, but no longer than until @deadline. */
static void wait_for(int fd, double deadline)
{
	struct pollfd p[] = { { sigfd, POLLIN, 0 }, { fd, POLLIN, 0 } };
	struct signalfd_siginfo info;
	double left = deadline - now();

	poll(p, fd < 0 ? 1 : 2, left > 0 ? (int)(left * 1000) + 1 : 0);
	while (read(sigfd, &info, sizeof(info)) > 0)
		;
}

/*
 * No process of a test may outlive it, not even one in a session of its own:
 * for PID 1 -1 means everybody else. False if one cannot be killed.
 */
static bool kill_all(void)
{
	double deadline = now() + REAP_SECONDS * scale;
	int status;

	for (;;) {
		kill(-1, SIGKILL);
		reap(-1, &status);
		if (waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD)
			return true;
		if (now() > deadline)
			return false;
		wait_for(-1, deadline);
	}
}

static void verdict(const char *ok, const char *what, const char *directive)
{
	fprintf(result, "%s %d %s%s\n", ok, ++nr_done, what, directive);
	fflush(result);
}

static void run_test(const struct test *t)
{
	double deadline = now() + t->seconds * scale;
	bool ended = false, more = true, stuck;
	char directive[64] = "";
	int pipefd[2], status = 0;
	pid_t pid;

	fprintf(result, "# run %d %g %s\n", nr_done + 1, t->seconds, describe(t));
	fflush(result);
	memset(&out, 0, sizeof(out));
	if (pipe2(pipefd, O_CLOEXEC)) {
		verdict("not ok", describe(t), " # no pipe");
		return;
	}
	pid = spawn();
	if (pid == 0) {
		dup2(open("/dev/null", O_RDONLY), 0);
		dup2(pipefd[1], 1);
		dup2(pipefd[1], 2);
		if (with[0])
			execl(with, with, "/bin/sh", "-c", t->command, NULL);
		else
			execl("/bin/sh", "sh", "-c", t->command, NULL);
		_exit(127);
	}
	close(pipefd[1]);
	fcntl(pipefd[0], F_SETFL, O_NONBLOCK);
	while (pid > 0 && !ended && now() < deadline) {
		wait_for(more ? pipefd[0] : -1, deadline);
		more = more && out_drain(pipefd[0]);
		ended = reap(pid, &status);
	}
	stuck = !kill_all();
	while (more && out_drain(pipefd[0])) {
		struct pollfd p = { pipefd[0], POLLIN, 0 };

		if (poll(&p, 1, 0) <= 0)
			break;
	}
	close(pipefd[0]);
	if (out.len)
		out_line();

	if (stuck)
		snprintf(directive, sizeof(directive),
			 " # TIMEOUT and a process that SIGKILL does not end");
	else if (!ended)
		snprintf(directive, sizeof(directive), " # TIMEOUT after %g s", t->seconds * scale);
	else if (WIFSIGNALED(status))
		snprintf(directive, sizeof(directive), " # killed by signal %d", WTERMSIG(status));
	else if (WEXITSTATUS(status) == 4)
		snprintf(directive, sizeof(directive), " # SKIP");
	else if (WEXITSTATUS(status))
		snprintf(directive, sizeof(directive), " # exit %d", WEXITSTATUS(status));
	verdict(directive[0] && strcmp(directive, " # SKIP") ? "not ok" : "ok",
		describe(t), directive);
}

/* Unload every module, users before the used; what stays is a failure. */
static void end_modules(void)
{
	char line[256], left[256] = "";
	bool progress = true;

	while (progress) {
		FILE *f = fopen("/proc/modules", "r");

		progress = false;
		left[0] = 0;
		while (f && fgets(line, sizeof(line), f)) {
			line[strcspn(line, " \n")] = 0;
			if (!syscall(SYS_delete_module, line, O_NONBLOCK))
				progress = true;
			else
				snprintf(left + strlen(left), sizeof(left) - strlen(left),
					 " %.60s", line);
		}
		if (f)
			fclose(f);
	}
	if (left[0])
		fprintf(result, "    # cannot unload:%s\n", left);
	verdict(left[0] ? "not ok" : "ok", "end: modules unloaded", "");
}

/*
 * What the kernel itself leaves behind, by a function that the object comes from.
 * Files that could not be collapsed: clear_inode() in fs/inode.c has it.
 */
static const char * const known_leaks[] = { "collapse_file+" };

static bool is_known_leak(const char *object)
{
	size_t i;

	for (i = 0; i < sizeof(known_leaks) / sizeof(*known_leaks); i++)
		if (strstr(object, known_leaks[i]))
			return true;
	return false;
}

/* One scan: of how many objects kmemleak finds no trace, or -1. */
static int kmemleak_scan(bool print)
{
	char line[256], object[8192] = "";	/* of some 20 lines */
	int lost = 0, known = 0;
	bool end = false;
	FILE *f;

	if (write_file(KMEMLEAK, "scan"))
		return -1;
	f = fopen(KMEMLEAK, "r");
	if (!f)
		return -1;
	while (!end) {
		end = !fgets(line, sizeof(line), f);
		if (*object && (end || !strncmp(line, "unreferenced object", 19))) {
			if (is_known_leak(object))
				known++;
			else if (lost++ < KMEMLEAK_SHOWN && print)
				fputs(object, result);
			object[0] = 0;
		}
		if (!end)
			snprintf(object + strlen(object), sizeof(object) - strlen(object),
				 "    %s", line);
	}
	fclose(f);
	if (known)
		fprintf(result, "    # %d objects are known leaks\n", known);
	return lost;
}

/*
 * What changes is not lost, so an object's first scan never says so. And a scan
 * does not stop the system: it loses sight of what is on its way from one place to
 * another, or to be freed. What has leaked, none finds.
 */
static void end_kmemleak(void)
{
	struct timespec age = { KMEMLEAK_AGE, 0 };
	int i, lost = 1;

	nanosleep(&age, NULL);
	write_file(KMEMLEAK, "scan");
	for (i = 1; lost > 0 && i <= KMEMLEAK_SCANS; i++) {
		if (i > 1)
			nanosleep(&age, NULL);
		lost = kmemleak_scan(i == KMEMLEAK_SCANS);
		if (lost > 0)
			fprintf(result, "    # scan %d: %d objects\n", i, lost);
	}
	if (lost < 0)
		fprintf(result, "    # the scan failed: kmemleak is off\n");
	verdict(lost ? "not ok" : "ok", "end: kmemleak", "");
}

static void end_taint(void)
{
	unsigned long taint = ~0UL;
	FILE *f = fopen("/proc/sys/kernel/tainted", "r");

	if (f) {
		if (fscanf(f, "%lu", &taint) != 1)
			taint = ~0UL;
		fclose(f);
	}
	if (taint & ~TAINT_EXPECTED)
		fprintf(result, "    # tainted: %#lx, see tainted-kernels.rst\n", taint);
	verdict(taint & ~TAINT_EXPECTED ? "not ok" : "ok", "end: no taint", "");
}

static void run_plan(void)
{
	bool kmemleak = !access(KMEMLEAK, W_OK);
	struct utsname uts;
	int i;

	uname(&uts);
	fprintf(result, "KTAP version 1\n# release: %s\n# version: %s\n", uts.release, uts.version);
	print_build_id();
	if (!read_plan())
		return;
	fprintf(result, "1..%d\n", nr_tests + 2 + kmemleak);
	for (i = 0; i < nr_tests; i++)
		run_test(&tests[i]);
	fprintf(result, "# run %d 30 end\n", nr_done + 1);
	end_modules();
	if (kmemleak)
		end_kmemleak();
	end_taint();
	sync();
	fprintf(result, "# end %s\n", nonce);
}

static void run_shell(void)
{
	pid_t pid = spawn();
	int status;

	if (pid == 0) {
		int fd = open("/dev/ttyS0", O_RDWR);

		ioctl(fd, TIOCSCTTY, 1);
		dup2(fd, 0);
		dup2(fd, 1);
		dup2(fd, 2);
		execl("/bin/sh", "-sh", NULL);
		_exit(127);
	}
	while (!reap(pid, &status))
		wait_for(-1, now() + 1);
}

int main(void)
{
	char text[32];
	sigset_t mask;

	if (getpid() != 1) {
		fprintf(stderr, "init: only for PID 1 of the test guest: it reboots the machine\n");
		return 125;
	}
	mounts();
	sigemptyset(&mask);
	sigaddset(&mask, SIGCHLD);
	sigprocmask(SIG_BLOCK, &mask, NULL);
	sigfd = signalfd(-1, &mask, SFD_NONBLOCK | SFD_CLOEXEC);
	setenv("PATH", "/bin:/tests", 1);
	setenv("HOME", "/tmp", 1);
	sethostname("vmlean", 6);
	if (param("vmlean.scale", text, sizeof(text)) && atof(text) > 0)
		scale = atof(text);
	param("vmlean.nonce", nonce, sizeof(nonce));
	param("vmlean.with", with, sizeof(with));

	if (param("vmlean.shell", NULL, 0)) {
		run_shell();
	} else {
		open_result();
		if (result) {
			run_plan();
			fflush(result);
			tcdrain(fileno(result));
		}
	}
	sync();
	reboot(RB_AUTOBOOT);
	for (;;)
		pause();
}
