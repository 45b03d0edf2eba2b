"""By being imported, makes another interpreter's tests importable in the workers of pools."""

from __future__ import annotations

from conformance import substitution

substitution.find_suite()
