"""`python -m gochat`."""

import sys

from gochat_command import main

sys.exit(main())
