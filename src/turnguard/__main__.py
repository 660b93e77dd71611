"""`python -m turnguard`."""

import sys

from turnguard.cli import main

if __name__ == "__main__":  # a worker process imports this file, too
    sys.exit(main())
