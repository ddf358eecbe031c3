"""``python -m normlib`` is the command ``normlib``."""

import sys

from normlib.cli import main

sys.exit(main())
