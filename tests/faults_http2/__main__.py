"""`scripts/faults h2 SEED`: the story of one seed over HTTP/2, line by line; `scripts/faults h2 FIRST LAST [FAILURES]`: of many, failures only."""

import sys

from faults_http2.story import NETWORK

if __name__ == "__main__":
    sys.exit(NETWORK.main(sys.argv[1:], str(__doc__)))
