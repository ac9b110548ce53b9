"""Jacobians with their structure: sums of terms, found from the local Jacobians of the gates."""
