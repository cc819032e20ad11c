"""The access log: a line for each request that has ended or was refused, in a form that other tools read."""
