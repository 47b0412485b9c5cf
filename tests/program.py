# SPDX-License-Identifier: Apache-2.0
"""The command that is tested: that of the virtual environment which runs the tests."""

from __future__ import annotations

import sys
from pathlib import Path

KUBYPASS = str(Path(sys.executable).parent / "kubypass")
