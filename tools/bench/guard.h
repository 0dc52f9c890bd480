/* SPDX-License-Identifier: GPL-2.0 */
#ifndef BENCH_GUARD_H
#define BENCH_GUARD_H

#include <stdint.h>

#define GUARD_VMAS	62	/* in a batch */
#define FORK_GUARDS	4000	/* VMAs of a process that forks */
#define OBJECT_GUARDS	20000	/* VMAs whose objects are counted */

void setup_guard(void);
void before_install_anon(void);
void before_install_file(void);
void before_flagged(void);
void guard_install(unsigned int n);
void before_install_again(void);
void guard_install_again(unsigned int n);
void before_install_mapped(void);
void first_fault(unsigned int n);
void guard_and_fault(unsigned int n);

void setup_fork_anon(void);
void setup_fork_file(void);
void setup_fork_guarded_anon(void);
void setup_fork_guarded_file(void);
void setup_fork_removed_anon(void);
void setup_fork_removed_file(void);
void before_fork_first(void);
uint64_t time_fork(unsigned int n);

void setup_objects_anon(void);
void setup_objects_file(void);
void setup_objects_shared(void);
uint64_t count_rmap_objects(unsigned int n);
uint64_t count_rmap_bytes(unsigned int n);

#endif /* BENCH_GUARD_H */
