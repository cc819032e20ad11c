"""The sibling: a small backend to try the load balancer with, `twistd be`. No part of the balancer imports it."""
