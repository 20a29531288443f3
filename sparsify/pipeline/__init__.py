"""What puts the stages in order: plan, run, and what the numbers then say."""
