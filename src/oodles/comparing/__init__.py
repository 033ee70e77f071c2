"""Many runs, from their results to a report."""
