# SPDX-License-Identifier: GPL-2.0
"""What the Python scripts share; the shell's counterpart is scripts/lib.sh."""

import sys

sys.dont_write_bytecode = True
