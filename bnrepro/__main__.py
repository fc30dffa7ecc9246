"""`python -m bnrepro` is `bnrepro`."""

import sys

from bnrepro.cli import main

sys.exit(main())
