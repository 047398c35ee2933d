"""What makes the recorded results: one module for each question, run by `python -m studies`."""
