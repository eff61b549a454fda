"""`python -m gochat`."""

import sys

from .main import main

sys.exit(main())
