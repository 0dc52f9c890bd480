# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# shellcheck disable=SC2034 # what is set here is used by those who source it
# Sourced by every script here: paths, the table of variants, stages, errors.

set -eu -o pipefail
export LC_ALL=C TZ=UTC
# a git hook, an alias or a make that calls us must not redirect our own
unset MAKEFLAGS MFLAGS MAKEOVERRIDES MAKELEVEL
unset GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE GIT_OBJECT_DIRECTORY GIT_PREFIX \
	GIT_ALTERNATE_OBJECT_DIRECTORIES GIT_CONFIG_PARAMETERS GIT_EXTERNAL_DIFF

TOP=$(realpath "${BASH_SOURCE[0]%/*}/..")
export VMLEAN_T0=${VMLEAN_T0:-$(date +%s)}


stage()		# stage TEXT: a line with the time since the first script began
{
	local t=$(($(date +%s) - VMLEAN_T0))

	printf '[%02d:%02d] %s\n' $((t / 60)) $((t % 60)) "$*"
}

note()
{
	printf '        %s\n' "$*"
}

die()		# die WHAT [WAY OUT]
{
	printf 'vmlean: error: %s%s\n' "$1" "${2:+ -- $2}" >&2
	exit 125
}

# What ends a script that did not say so by itself.
unexpected()	# unexpected STATUS LINE COMMAND
{
	[ "$1" = 125 ] || [ "$BASH_SUBSHELL" != 0 ] ||
		printf 'vmlean: error: %s:%s: status %s from: %s\n' "$0" "$2" "$1" "$3" >&2
}
set -E
trap 'unexpected $? $LINENO "$BASH_COMMAND"' ERR

# The bases are the folders of patches/ that hold a file BASE; BASE= names one,
# the newest is the default.
bases()
{
	local b

	for b in "$TOP"/patches/*/BASE; do
		b=${b%/BASE}
		echo "${b##*/}"
	done | sort -V
}

export BASE=${BASE:-$(bases | tail -n 1)}
PATCHES=${VMLEAN_PATCHES:-$TOP/patches/$BASE}
[ -e "$PATCHES/BASE" ] || die "no base '$BASE'" "BASE= takes one of: $(bases | paste -sd' ')"
BUILD=${VMLEAN_BUILD:-$TOP/build/$BASE}	# tests put it elsewhere
LINUX=$BUILD/linux			# where the series is edited
STOCK=$BUILD/stock			# its base, for comparison
BRANCH=vmlean/$BASE
JOBS=${JOBS:-$(nproc)}

# What a second clone can use again: tarballs and the compiler's cache.
CACHE=${VMLEAN_CACHE:-${XDG_CACHE_HOME:-${HOME:-$TOP/build}/.cache}/vmlean}
export CCACHE_DIR=${CCACHE_DIR:-$CACHE/ccache}

base_value()	# base_value KEY: one value of BASE
{
	sed -n "s/^$1=//p" "$PATCHES/BASE" | tr -d '"'
}

# The base in use: the pinned one, unless scripts/kernel had to take another.
PINNED_VERSION=$(base_value version)
BASE_VERSION=$(cat "$BUILD/base-version" 2>/dev/null || echo "$PINNED_VERSION")
BASE_TAG=base/$BASE_VERSION

in_range()	# in_range VERSION: is it in the tested range?
{
	[[ " $(base_value tested) " == *" $1 "* ]]
}

makefile_version()	# of the kernel whose Makefile is on stdin
{
	sed -nE 's/^(VERSION|PATCHLEVEL|SUBLEVEL) *= *//p' | head -n 3 | paste -sd.
}

# Nothing the person has configured may change what our own trees look like.
git_own()	# git_own DIR ARG...: git in a tree of ours
{
	GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1 GIT_ATTR_NOSYSTEM=1 \
		git -C "$1" -c core.hooksPath=/dev/null -c core.fsmonitor=false \
		-c core.attributesFile=/dev/null -c core.excludesFile=/dev/null "${@:2}"
}

git_linux()
{
	git_own "$LINUX" "$@"
}

# The variants: name, tree, fragments in tools/testing/kernel
variants()
{
	sed '/^#/d; s/\t\t*/\t/g' "$TOP/tools/testing/variants" | cut -f1,2,6
}

variant_line()	# fails for what is no variant
{
	local name tree frags

	while read -r name tree frags; do
		[ "$name" != "$1" ] || { echo "$tree" "$frags"; return; }
	done < <(variants)
	die "no variant '$1'" "one of: $(variants | cut -f1 | paste -sd' ')"
}

variant_tree()		# path of the source tree
{
	local tree

	read -r tree _ < <(variant_line "$1")
	case $tree in stock) echo "$STOCK" ;; linux) echo "$LINUX" ;; *) exit 125 ;; esac
}

# A fragment NAME is tools/testing/kernel/NAME.config and, after it, the base's own
# patches/BASE/config/NAME.config; one of them may be missing.
variant_fragments()	# paths of the config fragments, in order
{
	local line f dir

	line=$(variant_line "$1")
	for f in ${line#* }; do
		for dir in "$TOP/tools/testing/kernel" "$PATCHES/config"; do
			[ ! -e "$dir/$f.config" ] || echo "$dir/$f.config"
		done
	done
}

lock()		# lock NAME: until this script ends; waits, and says so
{
	local fd

	mkdir -p "$BUILD"
	exec {fd}>"$BUILD/.lock-$1"
	flock -n "$fd" || {
		note "waiting for another run ($1)"
		flock "$fd"
	}
}
