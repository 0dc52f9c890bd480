/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Rows of bench.c about the names of anonymous VMAs.
 */
#ifndef BENCH_NAMES_H
#define BENCH_NAMES_H

#include <stdint.h>

/* The fork of the 2021 patch that made names refcounted: 64K VMAs, no pages. */
#define NAMED_VMAS	65536

/* Two names in turns, one name again, a name that never was. */
void setup_name(void);
void before_name(void);
void name_known(unsigned int n);
void name_noop(unsigned int n);
void name_unique(unsigned int n);

/* NAMED_VMAS VMAs with so many names, each of the greatest length. */
void setup_unnamed(void);
void setup_same(void);
void setup_two(void);
void setup_sixteen(void);
void setup_distinct(void);

/* How many name objects they have, as vmbench.ko finds them. */
uint64_t count_names(unsigned int n);

#endif /* BENCH_NAMES_H */
