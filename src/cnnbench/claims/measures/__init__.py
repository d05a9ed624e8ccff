"""Measures: each a function of a finished run, or of a network before training, that returns one number.

`@register("measure", NAME, source=…, low=…, high=…)` on a function makes it usable in a claim. `source` is `run` (the
function takes `run: FinishedRun`) or `network` (it takes `network: Network`); `low` and `high` bound its values;
`exact` says that the seed does not matter; `diverged` is the value of a run whose loss became infinite.
"""

import cnnbench.claims.measures as _package
from cnnbench import registry

registry.discover(_package)
