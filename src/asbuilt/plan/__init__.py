"""From here to there: the vocabulary of workloads, the difference, the ordered steps, the rules they keep."""
