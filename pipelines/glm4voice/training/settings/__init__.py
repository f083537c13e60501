"""What a training file may say, one module per stage; none of them loads torch."""
