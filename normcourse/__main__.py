"""``python -m normcourse`` is the command ``normcourse``."""

import sys

from normcourse.cli import main

sys.exit(main())
