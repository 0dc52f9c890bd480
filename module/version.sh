#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# Print the version of this source tree: of git, else of CHANGELOG.md.
set -eu

top=$(cd "$(dirname "$0")/.." && pwd)
version=

# Only this tree's own .git, not that of a directory around it; the tree may
# belong to another user; describing it must not lock its index.
if [ -e "$top/.git" ]; then
	version=$(GIT_OPTIONAL_LOCKS=0 git -c safe.directory="$top" -C "$top" \
		describe --always --dirty 2>/dev/null) || version=
fi
if [ -z "$version" ] && [ -r "$top/CHANGELOG.md" ]; then
	version=$(sed -n 's/^## *\[\{0,1\}v\{0,1\}\([0-9][0-9A-Za-z.-]*\).*/\1/p' \
		"$top/CHANGELOG.md" | head -n 1)
fi
echo "${version:-unknown}"
