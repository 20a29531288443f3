"""What a run found, as flat metrics, as a page, on a terminal, and in one sentence."""
