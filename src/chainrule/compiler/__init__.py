"""The compiler: a traced program as one native function."""
