# SPDX-License-Identifier: GPL-2.0
# Thin: each target calls one script. Kbuild, beside this file, is the module's.

SHELL	:= /bin/bash
S	:= $(CURDIR)/scripts
KDIR	?= /lib/modules/$(shell uname -r)/build
MODULE	 = $(MAKE) -C "$(KDIR)" M="$(CURDIR)" MO="$(CURDIR)/build/modules"
JOBS	?= $(shell nproc)
ifdef BASE
export BASE
endif
export VMLEAN_T0 := $(or $(VMLEAN_T0),$(shell date +%s))
MAKEFLAGS += --no-print-directory

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help run check shell bench profile apply modules install lint bisect mutants races kcsan \
	soak fuzz model range stock-results setup kernel series image drift export topics clean distclean

help:		## this text
	@echo 'vmlean: a patch series for Linux and a module that shows what it saves'
	@echo
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/\1|\2/p; s/^##  (.*)/|\1/p' $(firstword $(MAKEFILE_LIST)) | \
		awk -F'|' '{ printf "  %-20s%s\n", $$1 ? "make " $$1 : "", $$2 }'
	@echo
	@echo 'BASE= chooses the kernel: $(notdir $(patsubst %/BASE,%,$(wildcard patches/*/BASE))); the newest is the default.'
	@echo 'It comes from Debian'"'"'s archive; KSRC=/path/to/linux or KTARBALL=file use yours.'
	@echo 'JOBS=N sets the number of parallel jobs (here: $(JOBS)). Everything made goes to build/BASE,'
	@echo 'what another clone can use again to ~/.cache/vmlean.'

# the usual way
run: series	## boot the patched kernel in QEMU, insert vmlean.ko, show what it saves
	@$S/build plain
	@$S/image plain
	@$S/boot plain run --show

check: setup	## the tests; the last line is the verdict
##  (STEP=… for some steps only; FULL=1 for a release: each patch alone, mutants, …)
	@$S/check $(if $(FULL),--full) $(STEP)

shell: series	## an interactive shell in the patched kernel
	@$S/build plain
	@$S/image plain
	@$S/boot plain --shell

bench: series	## instruction counts, stock against patched
	@$S/bench

profile: series	## ROW=mmap_munmap/memcg: where the instructions of that row go
	@$S/profile $(ROW)

# your own kernel
apply:		## KSRC=/path/to/linux: the series onto your tree (git or plain)
##  (TOPICS="vmap guards" for some topics of it)
	@$S/apply $(if $(KSRC),"KSRC=$(KSRC)")

modules:	## KDIR=/path/to/build: vmlean.ko for any kernel that has the series
	@[ -e "$(KDIR)/Makefile" ] || { echo "vmlean: error: no kernel build directory $(KDIR) --" \
		"KDIR=/path/to/it, of a kernel with the series" >&2; exit 125; }
	@$(MODULE) modules

install: modules	## KDIR=…: install that vmlean.ko (INSTALL_MOD_PATH is honoured)
	@$(MODULE) modules_install

# work on the series
lint: series	## checkpatch, sparse, kernel-doc, codespell, shellcheck, drift
	@$S/checks/lint

export: kernel	## write the commits in build/BASE/linux to patches/BASE
	@$S/export

drift: kernel	## do the commits in build/BASE/linux and patches/BASE agree?
	@$S/export --check

topics: kernel	## does each choice of topics apply, and each topic build alone?
	@$S/checks/topics

bisect: series	## build and boot the kernel after each single patch
	@$S/checks/bisect

races: series	## the races of guards, eight times as long as in check, on the debug kernel
	@$S/build debug
	@$S/image debug
	@$S/boot debug races

kcsan: series	## the same, and KCSAN watching for data races
	@$S/build kcsan
	@$S/image kcsan
	@$S/boot kcsan kcsan

mutants: series	## break the series in known places: do the tests notice?
	@$S/build plain
	@$S/image plain
	@$S/mutate

soak: series	## the free-area cache in lock step, ten times as long as in check
	@$S/checks/vmap-tests soak

fuzz: series	## SECONDS_TO_FUZZ=60: the same, with requests that libFuzzer chooses
	@$S/checks/vmap-tests fuzz

model: setup	## the protocol of the anon_vma flag, checked by spin
	@$S/checks/model $(if $(FULL),--full)

range: kernel	## apply to and build on every version of the tested range
	@$S/checks/range

stock-results: series	## record what the kernel's own selftests say on stock
	@$S/checks/upstream-tests record

# the single steps of the above
setup:		## install the Debian packages that are missing
	@$S/setup

kernel: setup	## get the base kernel, unpack it into build/BASE/linux
	@$S/kernel

series: kernel	## put patches/BASE onto build/BASE/linux
	@$S/apply

image: series	## VARIANT=plain: build that variant and its initramfs
	@$S/build $(or $(VARIANT),plain)
	@$S/image $(or $(VARIANT),plain)

clean:		## remove what was built; keep trees, tarball and compiler cache
	@$S/clean

distclean:	## remove build/BASE altogether; refuses to lose commits of yours
	@$S/clean all
