/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Guard regions of VMAs that have no anon_vma: what the tests of them have in
 * common. What does not need vmlean.ko's counters runs, and passes, on any kernel
 * with guard regions; where one behaves differently (EXPECTATIONS()), that is
 * expected of it. There are three kinds besides a stock 6.18: one that marks such
 * a VMA in the word of its anon_vma (flags_here()), upstream's with VM_MAYBE_GUARD
 * (maybe_guard()), and one that has no anon_vma for guards there (option_here()).
 *
 * Pages are written as text, a character for each:
 *	g	guarded
 *	w	written to
 *	r	read, before that nothing
 *	.	not touched
 *	z	zero
 *	p	poisoned (UFFDIO_POISON)
 *	-	not mapped
 */
#ifndef GUARD_UTIL_H
#define GUARD_UTIL_H

#include <linux/userfaultfd.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mount.h>

#include "vmlean_util.h"

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP	4
#endif
#ifndef UFFD_FEATURE_WP_HUGETLBFS_SHMEM
#define UFFD_FEATURE_WP_HUGETLBFS_SHMEM	(1 << 12)
#endif
#ifndef UFFD_FEATURE_WP_UNPOPULATED
#define UFFD_FEATURE_WP_UNPOPULATED	(1 << 13)
#endif
#ifndef UFFDIO_POISON
#define UFFD_FEATURE_POISON	(1 << 14)
#define UFFDIO_POISON		_IOWR(UFFDIO, 0x08, struct uffdio_poison)
struct uffdio_poison {
	struct uffdio_range range;
	__u64 mode;
	__s64 updated;
};
#endif
#ifndef UFFDIO_MOVE
#define UFFD_FEATURE_MOVE	(1 << 16)
#define UFFDIO_MOVE		_IOWR(UFFDIO, 0x05, struct uffdio_move)
struct uffdio_move {
	__u64 dst;
	__u64 src;
	__u64 len;
	__u64 mode;
	__s64 move;
};
#endif

#define FILE_PAGES	64
#define AT		(FAR_AWAY + 16 * page)
#define AWAY		(FAR_AWAY + (1UL << 30))

#define GUARDED		(-SIGSEGV)
#define POISONED	(-SIGBUS)

extern size_t page;

/* What all VMAs of a test map: files at the offset of the address to FAR_AWAY. */
enum backing { ANON, PRIVATE, SHARED, DISK };

extern struct map {
	enum backing backing;
	int fd, flags;
} map;

bool flags_here(void);
bool option_here(void);

/* What /proc/self/smaps says after "KEY:" for the VMA that begins at an address. */
const char *smaps_of(const char *at, const char *key);

/* Upstream's flag, as smaps shows it. */
bool maybe_guarded(const char *at);
bool maybe_guard(void);

/* Has a VMA of this test that has guards, and nothing else, no anon_vma? */
bool bare_guards(void);

/* A kernel that checks all it does takes a tenth of a second for a fork. */
bool slow(void);

/* There, each kind of VMA gets a third of some tests. */
bool left_to_others(unsigned int i);

/* The byte at an address, or the signal, negative, that a look at it costs. */
int look(const char *at);
int poke(char *at, int c);
int guard(char *at, size_t pages);
int unguard(char *at, size_t pages);

/* Waits for a child that exits with 0. */
bool succeeds(pid_t pid);

/*
 * A small disk with a file system, for files whose pages can be dropped. It is
 * unmounted at once, and goes with the last file that is open or mapped.
 */
int disk_file(void);

/* Why there is no such backing, or NULL. */
const char *backing_open(enum backing backing);

/* For FIXTURE_SETUP(). */
#define BACKING_OPEN(backing)						\
do {									\
	const char *__why = backing_open(backing);			\
	if (__why)							\
		SKIP(return, "%s", __why);				\
} while (0)

/* For what differs from a kernel without the flags. */
#define EXPECTATIONS()							\
do {									\
	if (!kconfig_known())						\
		SKIP(return, "no /proc/config.gz: is it with or without?"); \
} while (0)

bool shared(void);

/* A new mapping, of which nothing has been touched. */
bool put_prot(char *at, size_t pages, int prot);
bool put(char *at, size_t pages);
unsigned int index_of(const char *at);

/* The first byte of a page that was laid at @from. */
int expected(char what, const char *from);
bool fill(char *at, const char *pages);
bool lay(char *at, const char *pages);

/* Are pages that were laid at @from, and are now at @at, what they should be? */
bool as_laid(const char *who, const char *at, const char *from, const char *pages);

/* What is there already. */
bool rewrite(char *at, char *from, const char *pages);
bool kept_in_child(char *at, char *from, const char *pages, int depth);

/* In a child, its child and so on first, as a fault here could help them. */
bool kept_deep(char *at, char *from, const char *pages, int depth);

/* The same again when the VMA has the anon_vma that it may have lacked. */
bool kept_moved(char *at, char *from, const char *pages);
bool kept(char *at, const char *pages);

/* How many VMAs there are in a range. */
int vmas(const char *at, size_t pages);

/* Page tables of this process, in kB. */
long page_tables(void);

/* Many VMAs in a row, see guard_util.c. */
bool many_kept(const char *who, bool child);
bool many_laid(void);

/* A signal for a page that is missing: nobody need wait for it. */
int uffd_open_with(unsigned long long features, int flags);
int uffd_open(void);
int uffd_register(int fd, char *at, size_t pages, int mode);
int uffd_unregister(int fd, char *at, size_t pages);

/* 0, or an errno. */
int uffd_copy(int fd, char *at);
int uffd_zero(int fd, char *at);
int uffd_poison(int fd, char *at);
int uffd_protect(int fd, char *at, size_t pages, bool on);

#endif /* GUARD_UTIL_H */
