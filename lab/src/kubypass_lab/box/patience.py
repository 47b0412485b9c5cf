# SPDX-License-Identifier: Apache-2.0
"""How long a condition may take before it counts as one that never comes true.

A deadline is no figure of speed: it only keeps a run from waiting for ever, so it is generous. What is measured
belongs to `kubypass bench`. KUBYPASS_SLOWNESS=10 allows ten times as long, for a machine that is emulated.
"""

from __future__ import annotations

import os

SLOWNESS = max(1.0, float(os.environ.get("KUBYPASS_SLOWNESS") or 1))

DEADLINE_S = 120.0 * SLOWNESS
"""For a condition that is looked at again and again."""
ANSWER_S = 30.0 * SLOWNESS
"""For the answer to one question, where somebody is there to answer."""
SHORT_S = 0.7 * SLOWNESS
"""Where no answer is expected, or the question is asked again."""
