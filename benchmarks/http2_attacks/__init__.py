"""Attacks on HTTP/2, what they cost whom they meet, and what an honest client notices: the parts of `benchmarks/http2_abuse.py`."""
