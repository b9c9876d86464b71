"""The example's scripts are run by path; here they are imported."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "online_retail"))
