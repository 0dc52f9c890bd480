// SPDX-License-Identifier: GPL-2.0
/*
 * watched COMMAND...: runs a command, and has vmlean.ko check the anon_vmas of all
 * processes over and over until it ends. Its status is that of the command, or 1 if a
 * fault was found.
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CHECK "/sys/kernel/debug/vmlean/anon_vma/check"

static unsigned long checks, folios, faulty;

/* The number after a key that begins a line. */
static long value(const char *text, const char *key)
{
	const char *at = strstr(text, key);

	return at ? atol(at + strlen(key)) : -1;
}

static void look_at(int fd, const char *pid)
{
	char text[1024];
	ssize_t len;

	if (write(fd, pid, strlen(pid)) < 0) {
		/* it is gone, or a thread of the kernel, or memory is short on purpose */
		if (errno == ESRCH || errno == EINVAL || errno == ENOMEM)
			return;
		printf("# watched: cannot check process %s: %s\n", pid, strerror(errno));
		faulty++;
		return;
	}
	len = pread(fd, text, sizeof(text) - 1, 0);
	text[len < 0 ? 0 : len] = 0;
	checks++;
	folios += value(text, "\nfolios ");
	if (!value(text, "\nfaults "))
		return;
	faulty++;
	printf("# watched: process %s:\n%s", pid, text);
	fflush(stdout);
}

static void look_at_all(void)
{
	/* before each round: an open file would keep the module loaded */
	int fd = open(CHECK, O_RDWR | O_CLOEXEC);
	DIR *proc = opendir("/proc");
	struct dirent *entry;

	while (fd >= 0 && proc && (entry = readdir(proc)))
		if (isdigit(entry->d_name[0]))
			look_at(fd, entry->d_name);
	if (fd >= 0)
		close(fd);
	if (proc)
		closedir(proc);
}

int main(int argc, char **argv)
{
	const struct timespec pace = { .tv_nsec = 20000000 };
	sigset_t child;
	int status;
	pid_t pid;

	if (argc < 2)
		return 2;
	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	sigprocmask(SIG_BLOCK, &child, NULL);
	pid = fork();
	if (!pid) {
		sigprocmask(SIG_UNBLOCK, &child, NULL);
		execvp(argv[1], argv + 1);
		_exit(127);
	}
	while (pid > 0 && waitpid(pid, &status, WNOHANG) != pid) {
		look_at_all();
		sigtimedwait(&child, NULL, &pace);
	}
	printf("# watched: %lu checks, %lu folios, %lu processes with faults\n", checks, folios,
	       faulty);
	if (pid < 0 || faulty)
		return 1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
