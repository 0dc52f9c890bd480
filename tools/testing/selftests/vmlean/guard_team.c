// SPDX-License-Identifier: GPL-2.0
/*
 * Threads that work on guard regions at once, see guard_team.h.
 */
#include "guard_team.h"

size_t page;
static int pagemap = -1;

/* Races want a khugepaged that never sleeps, and preemption wherever it can be. */
static struct knob {
	const char *file, *value;
	char old[64];
} knobs[] = {
	{ THP "khugepaged/scan_sleep_millisecs", "0", "" },
	{ THP "khugepaged/pages_to_scan", "65536", "" },
	{ THP "shmem_enabled", "advise", "" },
	{ "/sys/kernel/debug/sched/preempt", "full", "" },
};

/* Of a list of choices the one in [] or () is in force. */
static void __attribute__((constructor)) knobs_turn(void)
{
	char text[256], *s;

	if (getenv("VMLEAN_EXEC"))	/* what a test has execed */
		_exit(0);
	for (size_t i = 0; i < ARRAY_SIZE(knobs); i++) {
		if (read_file(knobs[i].file, text, sizeof(text)) <= 0)
			continue;
		s = strpbrk(text, "[(");
		s = s ? s + 1 : text;
		s[strcspn(s, "])\n")] = '\0';
		snprintf(knobs[i].old, sizeof(knobs[i].old), "%.63s", s);
		write_file(knobs[i].file, knobs[i].value);
	}
}

/* Only the process that main() is in gets here: tests end in _exit(). */
static void __attribute__((destructor)) knobs_return(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(knobs); i++)
		if (*knobs[i].old)
			write_file(knobs[i].file, knobs[i].old);
}

struct area area = { .fd = -1 };

size_t bytes(void)
{
	return area.pages * page;
}

char *at(int nr)
{
	return FAR_AWAY + (nr + 1) * 2L * MAX_PAGES * page;
}

int area_map(int nr)
{
	int flags = area.private ? MAP_PRIVATE : MAP_SHARED;

	if (area.fd < 0)
		flags |= MAP_ANONYMOUS;
	if (mmap(at(nr), bytes(), PROT_RW, flags | MAP_FIXED, area.fd, 0) != at(nr))
		return -1;
	return area.huge ? madvise(at(nr), bytes(), MADV_HUGEPAGE) : 0;
}

int area_unmap(int nr)
{
	return munmap(at(nr), bytes());
}

int area_file(void)
{
	area.fd = memfd_create("guard_race", 0);
	return area.fd < 0 ? -1 : ftruncate(area.fd, bytes());
}

int install(char *p, int pages)
{
	return madvise(p, pages * page, MADV_GUARD_INSTALL);
}

int uninstall(char *p, int pages)
{
	return madvise(p, pages * page, MADV_GUARD_REMOVE);
}

bool guarded(const char *p)
{
	return syscall(SYS_access, p, F_OK) && errno == EFAULT;
}

bool poke(char *p)
{
	return !syscall(SYS_clock_getres, CLOCK_MONOTONIC, p);
}

/* Which pages have guards, without a fault. */
static int guards_read(int fd, const char *p, int pages, uint64_t *map)
{
	return pread(fd, map, pages * 8, (unsigned long)p / page * 8) ==
	       pages * 8 ? 0 : -1;
}

struct common *common;

struct team team;
int broken;

uint32_t rnd(struct worker *w)
{
	w->random ^= w->random << 13;
	w->random ^= w->random >> 17;
	w->random ^= w->random << 5;
	return w->random;
}

void failed(struct worker *w, const char *what)
{
	w->err = what;
	w->err_nr = errno;
	store(&broken, 1);
}

void wrong(struct worker *w, const char *what)
{
	errno = 0;
	failed(w, what);
}

void meet(void)
{
	int round = load(&team.round);

	if (__atomic_add_fetch(&team.arrived, 1, __ATOMIC_SEQ_CST) == team.nr) {
		store(&team.arrived, 0);
		store(&team.round, round + 1);
	} else {
		spin_until(load(&team.round) != round);
	}
}

static void *work(void *arg)
{
	struct worker *w = arg;
	int i;

	for (;;) {
		meet();
		if (load(&team.end))
			return NULL;
		for (i = 0; w->background ? load(&team.busy) : i < team.acts; i++)
			w->act(w);
		if (!w->background)
			__atomic_sub_fetch(&team.busy, 1, __ATOMIC_SEQ_CST);
		meet();
	}
}

int team_start(struct worker *w, int n, int acts)
{
	int i;

	team.nr = n + 1;
	team.acts = acts;
	for (i = 0; i < n; i++) {
		w[i].nr = i;
		w[i].random = 88172645 + 2463534242U * i + getpid();
		if (pthread_create(&w[i].thread, NULL, work, &w[i]))
			return -1;
	}
	return 0;
}

void team_begin(struct worker *w)
{
	int i, busy = 0;

	for (i = 0; i < team.nr - 1; i++)
		busy += !w[i].background;
	store(&team.busy, busy);
	meet();
}

const char *team_end(struct worker *w, int n)
{
	static char text[128];
	int i;

	store(&team.end, 1);
	meet();
	*text = '\0';
	for (i = 0; i < n; i++) {
		pthread_join(w[i].thread, NULL);
		if (w[i].err)
			snprintf(text, sizeof(text), "thread %d: %s%s%s", i,
				 w[i].err, w[i].err_nr ? ": " : "",
				 w[i].err_nr ? strerror(w[i].err_nr) : "");
	}
	return text;
}

static const act_t *mortal;

enum { KILL, EXIT, EXEC, SUICIDE, WAYS };

static int way, deadline, ready[2];

/* The last of so many acts, of all threads. */
static void act_mortal(struct worker *w)
{
	char *argv[] = { "guard_race", NULL }, *envp[] = { "VMLEAN_EXEC=1", NULL };

	if (__atomic_sub_fetch(&deadline, 1, __ATOMIC_SEQ_CST)) {
		mortal[w->nr](w);
		return;
	}
	switch (way) {
	case KILL:
		if (write(ready[1], "", 1) == 1)
			for (;;)
				pause();
		_exit(1);
	case EXIT:
		_exit(0);
	case EXEC:
		execve("/proc/self/exe", argv, envp);
		_exit(1);
	case SUICIDE:
		kill(getpid(), SIGKILL);
	}
}

const char *team_dies(act_t const act[4], int *processes)
{
	static const char * const ways[] = { "kill", "exit", "exec", "suicide" };
	struct worker w[4] = {};
	int i, k, expected, status;
	static char text[64];
	char c;

	mortal = act;
	if (pipe(ready))
		return "pipe";
	for (k = 0; k < 4; k++)
		w[k].act = act_mortal;
	for_rounds (i, 3000, 2) {
		pid_t pid = fork();

		if (pid < 0)
			return "fork";
		way = i % WAYS;
		deadline = 1 + i * 7 % 41;
		if (!pid) {
			if (team_start(w, 4, INT_MAX))
				_exit(1);
			team_begin(w);
			for (;;)
				pause();
		}
		if (way == KILL && (read(ready[0], &c, 1) != 1 || kill(pid, SIGKILL)))
			return "it died before it was killed";
		expected = way == KILL || way == SUICIDE ? SIGKILL : 0;
		if (waitpid(pid, &status, 0) != pid || status != expected) {
			snprintf(text, sizeof(text), "round %d: %s, status %x", i, ways[way],
				 status);
			return text;
		}
	}
	*processes = i;
	return "";
}

int child_wrong(pid_t pid)
{
	int status;

	if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return -1;
	return WEXITSTATUS(status);
}

int compare_with_child(int areas)
{
	static uint64_t here[2 * MAX_PAGES], there[2 * MAX_PAGES];
	int n = area.pages, a, i, fd, wrong = 0;
	pid_t pid;

	for (a = 0; a < areas; a++)
		if (guards_read(pagemap, at(a), n, here + a * n))
			return -1;
	pid = fork();
	if (pid)
		return child_wrong(pid);
	fd = open("/proc/self/pagemap", O_RDONLY);
	for (a = 0; a < areas; a++)
		if (guards_read(fd, at(a), n, there + a * n))
			_exit(255);
	for (i = 0; i < areas * n; i++)
		wrong += (here[i] & PM_GUARD) != (there[i] & PM_GUARD);
	/* and are these guards what pagemap says they are? */
	for (a = 0; a < areas; a++)
		for (i = 0; i < n; i += n > 8 ? 97 : 1)
			wrong += guarded(at(a) + i * page) !=
				 !!(here[a * n + i] & PM_GUARD);
	_exit(wrong > 200 ? 200 : wrong);
}

int all_in_child(const char *p, int pages)
{
	int i, wrong = 0;
	pid_t pid = fork();

	if (pid)
		return child_wrong(pid);
	for (i = 0; i < pages; i += i % TABLE > 8 ? 97 : 1)
		wrong += !guarded(p + i * page);
	_exit(wrong > 200 ? 200 : wrong);
}

int team_setup(void)
{
	page = getpagesize();
	common = mmap(NULL, sizeof(*common), PROT_RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pagemap = open("/proc/self/pagemap", O_RDONLY);
	return common == MAP_FAILED || pagemap < 0;
}

/* Is there anything to test? */
bool guards_here(void)
{
	char *p = map_at(FAR_AWAY, 1);
	bool here = p && !install(p, 1);

	if (p)
		munmap(p, page);
	return here;
}

double times(void)
{
	const char *n = getenv("VMLEAN_TIMES");

	return n ? atof(n) : 1;
}
