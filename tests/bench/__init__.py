"""What the witness costs, against what the same bytes, or an empty request, cost in the same run."""
