"""`python -m twisted_lb.ctl`: what the console script `lbctl` does."""

import sys

from twisted_lb.ctl.main import main

if __name__ == "__main__":
    sys.exit(main())
