"""Exact derivatives in every mode: reverse, forward, over batches; and the check of them."""
