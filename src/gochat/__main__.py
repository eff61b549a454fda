"""`python -m gochat`."""

import sys

from .ops.command import main

sys.exit(main())
