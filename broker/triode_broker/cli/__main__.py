"""`python -m triode_broker.cli`: the command `triode` where no console script is at hand, as for workers."""

import sys

from triode_broker.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
