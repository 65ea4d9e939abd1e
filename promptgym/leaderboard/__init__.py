"""Submissions, their check, and the static site that shows those that passed."""
