"""`python -m gwfast` is `gwfast`."""
import sys

from gwfast.cli import main

sys.exit(main())
