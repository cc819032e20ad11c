"""Discovery: a pool's backends from a list that somebody else keeps: a file, a URL, SRV records."""
