from twisted_lb import LoadBalancer

lb = LoadBalancer(["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80,weight=2"], "rr")

with lb.assign() as assignment:
    print("send it to", assignment.server)

lb.report_down("10.0.0.2:80", "no answer")  # it gets nobody ...
names = {lb.assign().server for _ in range(100)}
assert names == {"10.0.0.1:80", "10.0.0.3:80"}
lb.report_up("10.0.0.2:80")
lb.report_up("10.0.0.2:80")  # ... until it is well again, twice in a row
