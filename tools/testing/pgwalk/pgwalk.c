// SPDX-License-Identifier: GPL-2.0
/*
 * What fork copies of guarded VMAs, mm/pte_markers.c, over page tables of LEVELS
 * levels. That of one base is given the range of a run of VMAs; where there is a
 * mm/pte_markers.h (SOME_VMAS), it is given some VMAs, and clears the flag of those that
 * have no marker; and it installs guard regions, where that is simple.
 * The walker is the kernel's text, and so is how levels are folded
 * (include/asm-generic/pgtable-nop*d.h). The architecture is made up: 64 bits, 512
 * entries a table, 1024 where there are but two levels. Behind each page table is a
 * page that may not be touched. Prints a line for each test: "ok", or why not.
 */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE_SHIFT	12
#define PAGE_SIZE	(1UL << PAGE_SHIFT)
#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))
#define READ_ONCE(x)	(*(const volatile __typeof__(x) *)&(x))
#define likely(x)	(x)
#define unlikely(x)	(x)
#define cond_resched()	do { } while (0)
#define WARN_ON_ONCE(x)	({ bool __w = (x); warnings += __w; __w; })

static int warnings, cleared_bad, maps, locks;

/* ---- the architecture ---- */

#define BITS		(LEVELS == 2 ? 10 : 9)
#define PTRS		(1UL << BITS)
#define PTRS_PER_PTE	PTRS
#define PTRS_PER_PGD	PTRS
#define PGDIR_SHIFT	(PAGE_SHIFT + (LEVELS - 1) * BITS)
#define PGDIR_SIZE	(1UL << PGDIR_SHIFT)
#define PGDIR_MASK	(~(PGDIR_SIZE - 1))

#define PRESENT		1UL
#define HUGE		2UL
#define MARKER		4UL	/* of a pte */
#define FLAG_BITS	(PAGE_SIZE - 1)

typedef struct { unsigned long pte; } pte_t;
typedef struct { unsigned long pgd; } pgd_t;

#define pte_val(x)	((x).pte)
#define __pte(x)	((pte_t) { x })
#define pgd_val(x)	((x).pgd)
#define __pgd(x)	((pgd_t) { x })
#define pgd_ERROR(x)	do { } while (0)

/* The highest level is never folded: its entries are those of the level below that is. */
#define ENTRIES(level, lower)						\
static inline int level##_none(level##_t e)				\
{ return !level##_val(e); }						\
static inline int level##_bad(level##_t e)				\
{ return (level##_val(e) & FLAG_BITS) != PRESENT; }			\
static inline lower##_t *level##_table(level##_t e)			\
{ return (lower##_t *)(level##_val(e) & ~FLAG_BITS); }

#if LEVELS == 5
typedef struct { unsigned long p4d; } p4d_t;
#define P4D_SHIFT	(PAGE_SHIFT + 3 * BITS)
#define P4D_SIZE	(1UL << P4D_SHIFT)
#define P4D_MASK	(~(P4D_SIZE - 1))
#define PTRS_PER_P4D	PTRS
#define p4d_val(x)	((x).p4d)
#define __p4d(x)	((p4d_t) { x })
ENTRIES(pgd, p4d)
static inline p4d_t *p4d_offset(pgd_t *pgd, unsigned long addr)
{
	return pgd_table(*pgd) + (addr >> P4D_SHIFT) % PTRS;
}
#endif

#if LEVELS >= 4
typedef struct { unsigned long pud; } pud_t;
#define PUD_SHIFT	(PAGE_SHIFT + 2 * BITS)
#define PUD_SIZE	(1UL << PUD_SHIFT)
#define PUD_MASK	(~(PUD_SIZE - 1))
#define PTRS_PER_PUD	PTRS
#define pud_val(x)	((x).pud)
#define __pud(x)	((pud_t) { x })
#if LEVELS == 4
#include <asm-generic/pgtable-nop4d.h>
#endif
ENTRIES(p4d, pud)
#define p4d_pgtable	p4d_table
#endif

#if LEVELS >= 3
typedef struct { unsigned long pmd; } pmd_t;
#define PMD_SHIFT	(PAGE_SHIFT + BITS)
#define PMD_SIZE	(1UL << PMD_SHIFT)
#define PMD_MASK	(~(PMD_SIZE - 1))
#define PTRS_PER_PMD	PTRS
#define pmd_val(x)	((x).pmd)
#define __pmd(x)	((pmd_t) { x })
#if LEVELS == 3
#include <asm-generic/pgtable-nopud.h>
#endif
ENTRIES(pud, pmd)
#define pud_pgtable	pud_table
#else
#include <asm-generic/pgtable-nopmd.h>
#endif
ENTRIES(pmd, pte)

#define pmd_page_vaddr(e)	((unsigned long)pmd_table(e))

typedef int spinlock_t;
typedef unsigned long pte_marker;
typedef void *pgtable_t;
typedef struct { unsigned long val; } swp_entry_t;

struct mm_struct { pgd_t *pgd; };
struct vm_area_struct {
	unsigned long vm_start, vm_end, vm_flags;
	struct mm_struct *vm_mm;
	void *anon_vma;
};

static void rcu_read_unlock(void)
{
	maps--;
}

/* As where a huge page may be in such a table: never where it is folded. */
static bool pud_trans_huge(pud_t pud)
{
#ifdef __PAGETABLE_PMD_FOLDED
	return false;
#else
	return pud_val(pud) & HUGE;
#endif
}

/* What happens once an entry is read. */
static void (*meanwhile)(pud_t *pud);

static pud_t pudp_get(pud_t *pud)
{
	pud_t old = READ_ONCE(*pud);

	if (meanwhile)
		meanwhile(pud);
	return old;
}

#define CONFIG_TRANSPARENT_HUGEPAGE			1
#define CONFIG_HAVE_ARCH_TRANSPARENT_HUGEPAGE_PUD	1
void pud_clear_bad(pud_t *pud);

#include "pgtable-parts.h"

static void bad(void)
{
	cleared_bad++;
}

/* Never called with what is folded. */
void pgd_clear_bad(pgd_t *pgd)	{ bad(); *pgd = __pgd(0); }
#ifndef __PAGETABLE_P4D_FOLDED
void p4d_clear_bad(p4d_t *p4d)	{ bad(); *p4d = __p4d(0); }
#endif
#ifndef __PAGETABLE_PUD_FOLDED
void pud_clear_bad(pud_t *pud)	{ bad(); *pud = __pud(0); }
#endif
void pmd_clear_bad(pmd_t *pmd)	{ bad(); *pmd = __pmd(0); }

static pte_t *pte_offset_map(pmd_t *pmd, unsigned long addr)
{
	if (pmd_none(*pmd) || pmd_bad(*pmd))
		return NULL;
	maps++;
	return pte_offset_kernel(pmd, addr);
}

static pte_t ptep_get_lockless(pte_t *pte)
{
	return READ_ONCE(*pte);
}

#define ptep_get	ptep_get_lockless

static bool pte_none(pte_t pte)
{
	return !pte_val(pte);
}

static bool pte_is_marker(pte_t pte)
{
	return pte_val(pte) & MARKER;
}

static swp_entry_t softleaf_from_pte(pte_t pte)
{
	return (swp_entry_t) { pte_val(pte) };
}

/* as they were called before */
#define is_pte_marker		pte_is_marker
#define pte_to_swp_entry	softleaf_from_pte

/* Markers have a number, so that each can be told from the others; 0 is not copied. */
static pte_marker copy_pte_marker(swp_entry_t entry, struct vm_area_struct *vma)
{
	return entry.val >> PAGE_SHIFT;
}

static pte_t make_pte_marker(pte_marker marker)
{
	return __pte(marker << PAGE_SHIFT | MARKER);
}

#define PTE_MARKER_GUARD	(1UL << 30)	/* no other has that number */
#define GUARD			(PTE_MARKER_GUARD << PAGE_SHIFT | MARKER)

static bool softleaf_is_guard_marker(swp_entry_t entry)
{
	return entry.val == GUARD;
}

static void set_pte_at(struct mm_struct *mm, unsigned long addr, pte_t *pte, pte_t val)
{
	*pte = val;
}

static void mmap_assert_write_locked(struct mm_struct *mm)
{
}

static void vma_assert_write_locked(struct vm_area_struct *vma)
{
}

static void vma_assert_stabilised(struct vm_area_struct *vma)
{
}

#define update_mmu_cache(vma, addr, pte)	do { } while (0)
#define CONFIG_GUARD_NO_ANON_VMA	1
#define VM_COPY_ON_FORK			7UL
#define VM_MAYBE_GUARD			4UL
#define VM_WIPEONFORK			8UL
#define VMA_MAYBE_GUARD_BIT		2
#define vma_clear_flags(vma, bit)	((vma)->vm_flags &= ~(1UL << (bit)))
#define test_bit(nr, mask)		(*(mask) >> (nr) & 1)
#define __set_bit(nr, mask)		(*(mask) |= 1UL << (nr))
#define max(a, b)			((a) > (b) ? (a) : (b))
#define min(a, b)			((a) < (b) ? (a) : (b))
#define vmlean_count(event)		do { } while (0)
#define trace_guard_flag_clear(vma)	do { } while (0)

/* ---- page tables ---- */

#define TABLE_SIZE	(PTRS * sizeof(unsigned long))
#define MAX_TABLES	10000

static void *table_of[MAX_TABLES];
static int tables, fail_at = -1;

/* All entries are at the end of it, before a page that may not be touched. */
static void *table(void)
{
	char *p;

	if (fail_at >= 0 && tables >= fail_at)
		return NULL;
	p = mmap(NULL, TABLE_SIZE + PAGE_SIZE, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED || mprotect(p + TABLE_SIZE, PAGE_SIZE, PROT_NONE) ||
	    tables == MAX_TABLES) {
		perror("table");
		exit(2);
	}
	return table_of[tables++] = p;
}

/* An entry is at the place that each level of LEVELS has for it, folding or not. */
static unsigned long *entry(struct mm_struct *mm, unsigned long addr, int level)
{
	unsigned long *at = (unsigned long *)mm->pgd;

	for (int i = LEVELS - 1; ; i--) {
		at += addr >> (PAGE_SHIFT + i * BITS) & (PTRS - 1);
		if (i == level)
			return at;
		if (!*at) {
			unsigned long next = (unsigned long)table();

			if (!next)
				return NULL;
			*at = next | PRESENT;
		}
		at = (unsigned long *)(*at & ~FLAG_BITS);
	}
}

static pte_t *get_locked_pte(struct mm_struct *mm, unsigned long addr, spinlock_t **ptl)
{
	unsigned long *at = entry(mm, addr, 0);

	if (at) {
		maps++;
		locks++;
	}
	return (pte_t *)at;
}

/* What is folded is never none. */
static bool grow(void *entry)
{
	unsigned long next = (unsigned long)table();

	if (next)
		*(unsigned long *)entry = next | PRESENT;
	return next;
}

#define p4d_alloc(mm, pgd, addr)					\
	(pgd_none(*(pgd)) && !grow(pgd) ? NULL : p4d_offset(pgd, addr))
#define pud_alloc(mm, p4d, addr)					\
	(p4d_none(*(p4d)) && !grow(p4d) ? NULL : pud_offset(p4d, addr))
#define pmd_alloc(mm, pud, addr)					\
	(pud_none(*(pud)) && !grow(pud) ? NULL : pmd_offset(pud, addr))
#define pte_alloc(mm, pmd)	(pmd_none(*(pmd)) && !grow(pmd))

static pte_t *pte_offset_map_lock(struct mm_struct *mm, pmd_t *pmd, unsigned long addr,
				  spinlock_t **ptl)
{
	pte_t *pte = pte_offset_map(pmd, addr);

	locks += !!pte;
	return pte;
}

static void pte_unmap_unlock(pte_t *pte, spinlock_t *ptl)
{
	maps--;
	locks--;
}

/* ---- the kernel's text ---- */

#define __MM_INTERNAL_H
#ifdef SOME_VMAS
#define IS_A_RUN	false
#define IS_SOME_VMAS	true
#else
#define IS_A_RUN	true
#define IS_SOME_VMAS	false
int copy_pte_markers(struct vm_area_struct *dst_vma, struct vm_area_struct *src_vma,
		     unsigned long start);
#endif
#include WALKER

/* ---- tests ---- */

#define TOP_ADDR	(1UL << (PAGE_SHIFT + LEVELS * BITS - 1))
#define PAGES(n)	((n) * PAGE_SIZE)
#define TABLE		PAGES(PTRS)	/* what a page table spans */

static struct mm_struct parent, child;
static sigjmp_buf fault_jmp;
static const char *why;

static void on_fault(int sig)
{
	siglongjmp(fault_jmp, 1);
}

static void reset(void)
{
	while (tables)
		munmap(table_of[--tables], TABLE_SIZE + PAGE_SIZE);
	fail_at = -1;
	parent.pgd = table();
	child.pgd = table();
	warnings = 0;
	cleared_bad = 0;
	maps = 0;
	locks = 0;
	why = NULL;
	meanwhile = NULL;
}

static void put(unsigned long addr, unsigned long pte)
{
	*entry(&parent, addr, 0) = pte;
}

static void mark(unsigned long addr)
{
	put(addr, pte_val(make_pte_marker(1 + addr / PAGE_SIZE)));
}

/* What is forked: VMAs, in the order of addresses. */
#define MAX_VMAS	50

static struct vm_area_struct src_vmas[MAX_VMAS], dst_vmas[MAX_VMAS];
static bool has_marker[MAX_VMAS];
static int nr_vmas;

static void add_vma(unsigned long start, unsigned long end)
{
	int i = nr_vmas++;

	src_vmas[i] = (struct vm_area_struct) {
		.vm_start = start, .vm_end = end, .vm_mm = &parent, .vm_flags = VM_MAYBE_GUARD,
	};
	dst_vmas[i] = src_vmas[i];
	dst_vmas[i].vm_mm = &child;
	has_marker[i] = false;
}

static int fork_all(void)
{
	if (sigsetjmp(fault_jmp, 1)) {
		why = "it touched what is behind a page table";
		return 0;
	}
#ifdef SOME_VMAS
	struct fork_markers markers = { .nr = 0 };
	int err = 0;

	for (int i = 0; !err && i < nr_vmas; i++)
		err = fork_markers_add(&markers, &dst_vmas[i], &src_vmas[i]);
	return err ?: fork_markers_end(&markers);
#else
	return copy_pte_markers(&dst_vmas[nr_vmas - 1], &src_vmas[nr_vmas - 1],
				src_vmas[0].vm_start);
#endif
}

static int copy(unsigned long start, unsigned long end)
{
	nr_vmas = 0;
	add_vma(start, end);
	return fork_all();
}

static bool due(unsigned long at, unsigned long pte)
{
	for (int i = 0; pte & MARKER && i < nr_vmas; i++) {
		if (at >= src_vmas[i].vm_start && at < src_vmas[i].vm_end)
			return has_marker[i] = true;
	}
	return false;
}

static bool flags_are_right(void)
{
#ifdef SOME_VMAS
	for (int i = 0; i < nr_vmas; i++) {
		unsigned long flags = has_marker[i] ? VM_MAYBE_GUARD : 0;

		if (src_vmas[i].vm_flags != flags || dst_vmas[i].vm_flags != flags)
			return false;
	}
#endif
	return true;
}

/* Both trees alike, below one entry, where it is a marker of a VMA; else nothing. */
static bool same(unsigned long *src, unsigned long *dst, int level, unsigned long at)
{
	for (unsigned long i = 0; i < PTRS; i++, at += 1UL << (PAGE_SHIFT + level * BITS)) {
		unsigned long s = src ? src[i] : 0, d = dst ? dst[i] : 0;

		if (!level) {
			if (d != (due(at, s) ? s : 0)) {
				printf("# at %#lx: %#lx instead of a copy of %#lx\n", at, d, s);
				return false;
			}
			continue;
		}
		if (s & HUGE)
			s = 0;
		if ((s || d) &&
		    !same(s ? (unsigned long *)(s & ~FLAG_BITS) : NULL,
			  d ? (unsigned long *)(d & ~FLAG_BITS) : NULL, level - 1, at))
			return false;
	}
	return true;
}

static void nothing_left(void)
{
	if (!why && (warnings || cleared_bad || maps || locks))
		why = warnings ? "it warned" : cleared_bad ? "it cleared an entry" :
		      "it left something mapped or locked";
}

static bool all_copied(int err)
{
	if (!why && err)
		why = "it failed";
	nothing_left();
	if (!why && !same((unsigned long *)parent.pgd, (unsigned long *)child.pgd, LEVELS - 1, 0))
		why = "the child's markers are others";
	if (!why && !flags_are_right())
		why = "it cleared a flag, or did not";
	return !why;
}

static bool copied(unsigned long start, unsigned long end)
{
	return all_copied(copy(start, end));
}

/* One, in a mapping that spans many tables, wherever it is. */
static void one(void)
{
	static const unsigned int at[] = { 0, 1, 2, 3, 511, 512, 513, 1023 };
	unsigned long size = LEVELS == 2 ? 400 * TABLE : 1024 * TABLE;

	for (size_t i = 0; i < ARRAY_SIZE(at); i++) {
		unsigned long start = LEVELS == 2 ? 0 : 8 * TABLE;
		unsigned long addr = start + at[i] * TABLE % size + PAGES(5);

		reset();
		mark(addr);
		if (!copied(start, start + size))
			return;
	}
}

/* The one of the review: a mapping of 4 GB, a guard at 3 GB. */
static void guard_at_3gb(void)
{
	unsigned long gb = 1UL << 30;

	reset();
	mark(3 * gb);
	copied(0, 4 * gb);
}

/* The last entry of a table is the last thing to be looked at, and the first one is. */
static void ends_of_tables(void)
{
	for (int n = 1; n <= 4; n++) {
		reset();
		for (int i = 0; i <= n; i++) {
			mark(i * TABLE);
			mark(i * TABLE + TABLE - PAGE_SIZE);
		}
		if (!copied(PAGE_SIZE, n * TABLE + PAGE_SIZE))
			return;
	}
}

/* Across the boundary of what an entry of each level spans. */
static void boundaries(void)
{
	for (int level = 1; level < LEVELS; level++) {
		unsigned long span = 1UL << (PAGE_SHIFT + level * BITS), middle = span;

		reset();
		for (int i = -3; i <= 3; i++)
			mark(middle + PAGES(i));
		if (!copied(middle - PAGES(2), middle + PAGES(3)))
			return;
		/* the first has none of the tables */
		reset();
		mark(middle + PAGES(1));
		if (!copied(middle - PAGES(2), middle + PAGES(3)))
			return;
		reset();
		mark(middle - PAGES(1));
		if (!copied(middle - PAGES(2), middle + PAGES(3)))
			return;
	}
}

static void highest(void)
{
	reset();
	mark(TOP_ADDR - PAGE_SIZE);
	copied(TOP_ADDR - 3 * TABLE - PAGE_SIZE, TOP_ADDR);
}

static void nothing(void)
{
	int was;

	reset();
	if (!copied(PAGES(3), 5 * TABLE))
		return;
	put(PAGES(4), PRESENT);
	put(2 * TABLE, PRESENT);
	was = tables;
	if (!copied(PAGES(3), 5 * TABLE))
		return;
	if (tables != was)
		why = "it made page tables that stay empty";
}

/* What is no marker stays away, and so does a marker that says nothing to a child. */
static void markers_only(void)
{
	reset();
	for (int i = 0; i < 20; i++) {
		put(PAGES(2 * i), PRESENT | PAGES(77));
		mark(PAGES(2 * i + 1));
	}
	if (!copied(0, PAGES(40)))
		return;
	reset();
	put(PAGES(1), MARKER);
	mark(PAGES(2));
	if (copy(0, PAGES(3)) || src_vmas[0].vm_flags != VM_MAYBE_GUARD ||
	    *entry(&child, PAGES(1), 0) || !*entry(&child, PAGES(2), 0))
		why = "a marker that is not for a child";
}

/* A huge page is neither looked into nor taken for a bad entry. */
static void huge_pages(void)
{
	for (int level = 1; level < LEVELS && level <= 2; level++) {
		unsigned long span = 1UL << (PAGE_SHIFT + level * BITS), huge = PAGES(1) * 64;
		unsigned long *at;

#if LEVELS == 2
		if (level == 2)
			break;
#endif
		reset();
		mark(span - PAGE_SIZE);
		mark(2 * span);
		at = entry(&parent, span, level);
		*at = huge | PRESENT | HUGE;
		if (!copied(0, 3 * span))
			return;
		if (*at != (huge | PRESENT | HUGE)) {
			why = "the huge page is gone";
			return;
		}
	}
}

/* No memory: an error, and nothing stays locked. */
static void no_memory(void)
{
	int n;

	for (n = 0; ; n++) {
		int err;

		reset();
		mark(PAGES(3));
		mark(1UL << PGDIR_SHIFT);
		fail_at = tables + n;
		err = copy(0, (1UL << PGDIR_SHIFT) + PAGES(2));
		if (why)
			return;
		if (maps || locks)
			why = "it left something mapped or locked";
		if (!err)
			break;
		if (err != -ENOMEM)
			why = "another error";
	}
	fail_at = -1;
	if (n != 2 * (LEVELS - 1))
		why = "it needs another number of tables";
}

static void at_random(void)
{
	for (int round = 0; round < 300; round++) {
		unsigned long tables_each = 600 * TABLE, start, end;

		reset();
		start = random() % 3 * (tables_each / 3) + PAGES(random() % 2000);
		end = start + PAGES(1 + random() % (round % 2 ? 3000 : 300000));
		for (int i = random() % 40; i--; )
			mark(random() % (tables_each / PAGE_SIZE) * PAGE_SIZE);
		for (int i = random() % 10; i--; )
			mark(start + PAGES(random() % 5000));
		if (!copied(start, end)) {
			printf("# round %d, from %#lx to %#lx\n", round, start, end);
			return;
		}
	}
}

/*
 * More VMAs than fit at once. What lies between them, a VMA or nothing, is not theirs;
 * a run has nothing there.
 */
static void some_vmas(void)
{
	for (int round = 0; round < 300; round++) {
		unsigned long at = PAGES(random() % 2000);

		reset();
		nr_vmas = 0;
		for (int n = 1 + random() % MAX_VMAS; n--; ) {
			unsigned long size = 1 + random() % (random() % 8 ? 4 : 3000);
			unsigned long gap = random() % (random() % 8 ? 3 : 3000);
			unsigned long used = IS_A_RUN ? size : size + gap;

			add_vma(at, at + PAGES(size));
			for (int i = random() % 4; i--; )
				mark(at + PAGES(random() % used));
			at += PAGES(size + gap);
		}
		if (!all_copied(fork_all())) {
			printf("# round %d, %d VMAs\n", round, nr_vmas);
			return;
		}
	}
}

/* ---- what is installed ---- */

/* What install_guard_markers() returns. */
enum { INSTALLED, MAPPED, NOT_SIMPLE = -EAGAIN };

static int install(unsigned long start, unsigned long end)
{
#ifdef SOME_VMAS
	struct vm_area_struct vma = { .vm_end = TOP_ADDR, .vm_mm = &parent };

	if (sigsetjmp(fault_jmp, 1)) {
		why = "it touched what is behind a page table";
		return NOT_SIMPLE;
	}
	return install_guard_markers(&vma, start, end);
#else
	return NOT_SIMPLE;
#endif
}

#define NR_TABLES	3

/* What is in a page table, for the one that it should be afterwards. */
static void fill(unsigned long *pte)
{
	static const unsigned long values[] = {
		GUARD, PRESENT | PAGES(77), MARKER | PAGES(9), PAGES(5)
	};

	memset(pte, 0, TABLE_SIZE);
	for (int i = random() % 4 * (random() % 20); i--; )
		pte[random() % PTRS] = values[random() % 8 ? 0 : random() % ARRAY_SIZE(values)];
}

static int should_install(unsigned long *pte, unsigned long n)
{
	for (; n; n--, pte++) {
		if (*pte && *pte != GUARD)
			return MAPPED;
		*pte = GUARD;
	}
	return INSTALLED;
}

/*
 * Part of one page table that is there, and only up to what is no guard: those before
 * it are installed. Nothing is allocated, and a huge page stays.
 */
static void install_at_random(void)
{
	static unsigned long pte[NR_TABLES][PTRS];

	for (int round = 0; IS_SOME_VMAS && round < 3000; round++) {
		/* on both sides of the boundary of a level */
		int level = LEVELS == 2 ? 1 : 2 + random() % (LEVELS - 2), was;
		unsigned long base = (1UL << (PAGE_SHIFT + level * BITS)) - TABLE;
		unsigned long first = random() % (NR_TABLES * PTRS), t = first / PTRS;
		unsigned long n = 1 + random() % (random() % 3 ? 20 : 2 * PTRS);
		unsigned long huge = random() % 2 ? PRESENT | HUGE | PAGES(64) : 0;
		bool there[NR_TABLES];
		int due, got;

		reset();
		if (random() % 3 == 0)	/* just to the end */
			n = PTRS - first % PTRS + random() % 3 - random() % 2;
		n = n ?: 1;
		for (int i = 0; i < NR_TABLES; i++) {
			unsigned long at = base + i * TABLE;

			there[i] = random() % 4;
			if (!there[i]) {
				*entry(&parent, at, 1) = huge;
				continue;
			}
			fill(pte[i]);
			memcpy(entry(&parent, at, 0), pte[i], TABLE_SIZE);
		}
		was = tables;
		due = !there[t] || first % PTRS + n > PTRS ? NOT_SIMPLE :
		      should_install(&pte[t][first % PTRS], n);
		got = install(base + PAGES(first), base + PAGES(first + n));
		if (got != due && !why)
			why = got == INSTALLED ? "it says that it did" :
						 "it did not, or says why wrongly";
		nothing_left();
		for (int i = 0; !why && i < NR_TABLES; i++) {
			unsigned long at = base + i * TABLE;

			if (there[i] ? memcmp(entry(&parent, at, 0), pte[i], TABLE_SIZE)
				     : *entry(&parent, at, 1) != huge)
				why = "it is not what it should be";
		}
		if (!why && tables != was)
			why = "it made page tables";
		if (why) {
			printf("# round %d, %lu pages from %lu\n", round, n, first);
			return;
		}
	}
}

/* There is none when the walk gets there, and there is one when it looks again. */
static void huge_page_comes(pud_t *pud)
{
	*(unsigned long *)pud = PRESENT | HUGE | PAGES(64);
	meanwhile = NULL;
}

static void install_beside_a_fault(void)
{
	unsigned long *at;

	reset();
	if (!IS_SOME_VMAS || LEVELS == 2)
		return;
	at = entry(&parent, PAGES(3), 2);
	meanwhile = huge_page_comes;
	if (install(PAGES(3), PAGES(4)) != NOT_SIMPLE && !why)
		why = "it says that it did";
	nothing_left();
	if (!why && *at != (PRESENT | HUGE | PAGES(64)))
		why = "the huge page is gone";
}

static const struct {
	const char *name;
	void (*run)(void);
} tests[] = {
	{ "one marker in many tables", one },
	{ "4 GB, a guard at 3 GB", guard_at_3gb },
	{ "first and last entry of each table", ends_of_tables },
	{ "across the boundary of each level", boundaries },
	{ "below the highest address", highest },
	{ "nothing to copy", nothing },
	{ "markers only", markers_only },
	{ "huge pages", huge_pages },
	{ "no memory", no_memory },
	{ "at random", at_random },
	{ "some VMAs", some_vmas },
	{ "installed at random", install_at_random },
	{ "installed beside a fault", install_beside_a_fault },
};

int main(void)
{
	struct sigaction sa = { .sa_handler = on_fault, .sa_flags = SA_NODEFER };
	int failed = 0;

	setvbuf(stdout, NULL, _IOLBF, 0);
	sigaction(SIGSEGV, &sa, NULL);
	sigaction(SIGBUS, &sa, NULL);
	alarm(100);	/* a walk that does not come to an end */
	for (size_t i = 0; i < ARRAY_SIZE(tests); i++) {
		tests[i].run();
		printf("%s pgwalk: %d levels: %s%s%s\n", why ? "not ok" : "ok", LEVELS,
		       tests[i].name, why ? ": " : "", why ?: "");
		failed += !!why;
	}
	return !!failed;
}
