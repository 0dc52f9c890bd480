/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Rows of bench.c about walks of the reverse map.
 */
#ifndef BENCH_RMAP_H
#define BENCH_RMAP_H

#include <stdint.h>

#define RMAP_WALKS	64	/* in a batch */
#define RMAP_PARTS	100	/* of a VMA: visits are counted in these */

/* So many children, who write some pages and share others. */
void setup_family(unsigned int n);

/* Walks for a page that a child has written, and for one that all share. */
uint64_t time_walks_child(unsigned int n);
uint64_t time_walks_shared(unsigned int n);

/* VMAs that a walk visits when such pages are swapped out, as vmlean.ko counts them. */
uint64_t count_visits_child(unsigned int n);
uint64_t count_visits_shared(unsigned int n);

/* vmlean.ko checks the anon_vmas of a process with many VMAs. */
#define CHECKED_VMAS	65000

void setup_check(void);
uint64_t time_check(unsigned int n);

#endif /* BENCH_RMAP_H */
