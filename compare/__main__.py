"""`python -m compare` is the command `diptych`."""

import sys

from compare.commands.cli import main

if __name__ == "__main__":
    sys.exit(main())
